"""Average precision and recall: cases that can be counted by hand, and pycocotools as the oracle."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from diptych.metrics.detection import FEW, MOST, Found, Truth, detection_scores


def found(*boxes: tuple[Any, ...]) -> Found:
    """(x0, y0, x1, y1, score, label) each."""
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    return Found(boxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].astype(np.int64))


def truth(*boxes: tuple[Any, ...], crowd: int | None = None) -> Truth:
    """(x0, y0, x1, y1, label) each, of which one may be a crowd."""
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    return Truth(boxes=rows[:, :4], labels=rows[:, 4].astype(np.int64), crowd=np.arange(len(rows)) == crowd)


def test_what_is_found_in_its_place_under_its_name_is_all() -> None:
    scores = detection_scores([found((2, 3, 12, 33, 0.6, 4))], [truth((2, 3, 12, 33, 4))])
    assert (scores.ap, scores.ap50, scores.recall36, scores.recall100) == (1, 1, 1, 1)
    assert (scores.by_class, scores.objects) == ({4: 1.0}, 1)


def test_a_better_score_for_a_wrong_box_halves_the_precision() -> None:
    """Of a class: first a box beside everything, then the object. At every recall the precision is 1/2."""
    scores = detection_scores([found((0, 0, 10, 10, 0.4, 0), (50, 50, 60, 60, 0.9, 0))], [truth((0, 0, 10, 10, 0))])
    assert scores.ap50 == pytest.approx(0.5)
    assert scores.recall36 == 1


def test_half_of_the_objects_found_is_half_of_the_curve() -> None:
    """Precision is 1 up to recall 1/2, which are 51 of the 101 points."""
    scores = detection_scores([found((0, 0, 10, 10, 0.9, 0))], [truth((0, 0, 10, 10, 0), (30, 30, 50, 50, 0))])
    assert scores.ap50 == pytest.approx(51 / 101)
    assert scores.recall100 == 0.5


def test_an_overlap_counts_as_far_as_it_goes() -> None:
    """IoU is 0.79, which is enough at 0.50, 0.55, 0.60, 0.65, 0.70 and 0.75, and not at the last four."""
    scores = detection_scores([found((0, 0, 7.9, 10, 0.9, 0))], [truth((0, 0, 10, 10, 0))])
    assert (scores.ap50, scores.ap75) == (1, 1)
    assert scores.ap == pytest.approx(6 / 10)


def test_the_wrong_name_is_wrong_but_the_object_is_met() -> None:
    scores = detection_scores([found((0, 0, 10, 10, 0.9, 1))], [truth((0, 0, 10, 10, 0))])
    assert (scores.ap50, scores.recall36) == (0, 1)


def test_recall_counts_the_first_boxes_alone() -> None:
    """The object is met by the 37th box."""
    beside = [(100 + k, 0, 101 + k, 1, 0.9 - k / 1000, 0) for k in range(FEW)]
    scores = detection_scores([found(*beside, (0, 0, 10, 10, 0.1, 0))], [truth((0, 0, 10, 10, 0))])
    assert (scores.recall36, scores.recall100) == (0, 1)


def test_a_crowd_is_no_object_and_what_is_in_it_no_mistake() -> None:
    there = truth((0, 0, 10, 10, 0), (40, 0, 90, 50, 0), crowd=1)
    scores = detection_scores([found((0, 0, 10, 10, 0.5, 0), (50, 10, 60, 20, 0.9, 0))], [there])
    assert (scores.ap50, scores.objects) == (1, 1)


@pytest.mark.parametrize("pictures", [[], [found()], [found(), found()]])
def test_nothing_found_or_nothing_there(pictures: list[Found]) -> None:
    there = [truth((0, 0, 10, 10, 3))] * len(pictures)
    scores = detection_scores(pictures, there)
    assert (scores.ap, scores.ap50, scores.recall36, scores.objects) == (0, 0, 0, len(pictures))
    assert scores.by_class == ({3: 0.0} if pictures else {})


@pytest.mark.parametrize("seed", [0, 1])
def test_pycocotools_counts_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    there, told = [], []
    for _ in range(12):
        corner = rng.random((3, 2)) * 40
        boxes = np.concatenate([corner, corner + 5 + rng.random((3, 2)) * 30, rng.integers(0, 4, (3, 1))], axis=1)
        there.append(truth(*boxes, crowd=2 if rng.random() < 0.3 else None))
        near = np.repeat(boxes, 4, axis=0) + np.pad(rng.normal(0, 2.5, (12, 4)), ((0, 0), (0, 1)))
        told.append(found(*np.concatenate([near[:, :4], rng.random((12, 1)), near[:, 4:]], axis=1)))
    scores = detection_scores(told, there)
    by_class, at_all = oracle(told, there, use_classes=True), oracle(told, there, use_classes=False)
    precision = by_class["precision"][:, :, :, 0, -1]
    assert scores.ap == pytest.approx(precision[precision > -1].mean())
    assert scores.ap50 == pytest.approx(precision[0][precision[0] > -1].mean())
    assert (scores.recall36, scores.recall100) == pytest.approx(tuple(at_all["recall"][0, 0, 0, 1:]))


def oracle(told: list[Found], there: list[Truth], *, use_classes: bool) -> dict[str, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sides(box: np.ndarray) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    annotations = [
        {"image_id": k, "category_id": int(label), "bbox": sides(box), "iscrowd": int(crowd)}
        for k, one in enumerate(there)
        for box, label, crowd in zip(one.boxes, one.labels, one.crowd, strict=True)
    ]
    for number, one in enumerate(annotations, 1):
        one |= {"id": number, "area": one["bbox"][2] * one["bbox"][3]}  # type: ignore[index]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {
            "images": [{"id": k} for k in range(len(there))],
            "annotations": annotations,
            "categories": [{"id": label} for label in range(4)],
        }
        gold.createIndex()
        answers = [
            {"image_id": k, "category_id": int(label), "bbox": sides(box), "score": float(score)}
            for k, one in enumerate(told)
            for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
        ]
        judge = COCOeval(gold, gold.loadRes(answers), "bbox")
        judge.params.maxDets, judge.params.useCats = [1, FEW, MOST], int(use_classes)
        judge.evaluate()
        judge.accumulate()
    return judge.eval
