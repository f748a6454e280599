"""What a detector finds against what is there: COCO's average precision, and recall among the first boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from diptych.errors import UsageError

MOST = 100
"""Boxes of a picture that count, the best first, as on COCO's leaderboard."""
FEW = 36
"""Boxes of a picture that the fixed sets of region features have."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a detector says is in one picture."""

    boxes: np.ndarray
    """(N, 4) float32: x0, y0, x1, y1."""
    scores: np.ndarray
    """(N,) float32."""
    labels: np.ndarray
    """(N,) int64, from 0."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is in it."""

    boxes: np.ndarray
    """(R, 4) float32, in the same pixels."""
    labels: np.ndarray
    crowd: np.ndarray
    """(R,) bool: what is found in a crowd is neither right nor wrong."""


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """Shares from 0 to 1."""

    ap: float
    """COCO's AP: the mean over IoU of 0.50 to 0.95 by 0.05, and over the classes that are there."""
    ap50: float
    """At IoU 0.5 alone, PASCAL VOC's measure with COCO's 101 points of the curve."""
    ap75: float
    recall36: float
    """Share of the objects that one of the first 36 boxes meets at IoU 0.5, whatever their class."""
    recall100: float
    by_class: dict[int, float]
    """AP at IoU 0.5 of each class that is there."""
    objects: int
    """That there are, crowds left out."""


def detection_scores(found: Sequence[Found], truth: Sequence[Truth]) -> DetectionScores:
    """How well the pictures' objects are found. Lin et al., arXiv:1405.0312; the protocol is that of its server.

    Args:
        found: of each picture.
        truth: of each picture, in the same order.
    Raises:
        UsageError: the extra [regions] is not installed.
    """
    objects = sum(int((~one.crowd).sum()) for one in truth)
    classes = sorted({int(label) for one in truth for label in one.labels[~one.crowd]})
    if not objects or not any(len(one.boxes) for one in found):
        zero = dict.fromkeys(classes, 0.0)
        return DetectionScores(ap=0, ap50=0, ap75=0, recall36=0, recall100=0, by_class=zero, objects=objects)
    by_class = _accumulated(found, truth, classes)
    precision = by_class["precision"][:, :, :, 0, -1]  # (IoU, recall, class)
    at_all = _accumulated(found, truth, None)["recall"]  # (IoU, 1, area, boxes)
    return DetectionScores(
        ap=float(precision.mean()),
        ap50=float(precision[0].mean()),
        ap75=float(precision[5].mean()),
        recall36=float(at_all[0, 0, 0, -2]),
        recall100=float(at_all[0, 0, 0, -1]),
        by_class={label: float(precision[0, :, place].mean()) for place, label in enumerate(classes)},
        objects=objects,
    )


def _accumulated(found: Sequence[Found], truth: Sequence[Truth], classes: Sequence[int] | None) -> dict[str, Any]:
    """Precision and recall by IoU, class, area and number of boxes; without `classes`, all are one."""
    if find_spec("faster_coco_eval") is None:
        raise UsageError("average precision is measured by faster-coco-eval; run: pip install 'diptych[regions]'")
    from faster_coco_eval import COCO, COCOeval_faster

    of_one = classes is None
    boxes = [(picture, label, box, crowd) for picture, one in enumerate(truth) for label, box, crowd in _rows(one)]
    gold = {
        "images": [{"id": picture} for picture in range(len(truth))],
        "categories": [{"id": label} for label in ([0] if classes is None else classes)],
        "annotations": [
            {
                "id": number,
                "image_id": picture,
                "category_id": 0 if of_one else label,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            for number, (picture, label, box, crowd) in enumerate(boxes, start=1)
        ],
    }
    answers = [
        {"image_id": picture, "category_id": 0 if of_one else int(label), "bbox": box, "score": float(score)}
        for picture, one in enumerate(found)
        for label, box, score in zip(one.labels, _with_sides(one.boxes), one.scores, strict=True)
    ]
    told = COCO(gold)
    judge = COCOeval_faster(told, told.loadRes(answers), iouType="bbox", print_function=lambda *words: None)
    judge.params.maxDets = [1, FEW, MOST]
    judge.evaluate()
    judge.accumulate()
    return judge.eval


def _rows(one: Truth) -> list[tuple[int, list[float], bool]]:
    return list(zip(one.labels.tolist(), _with_sides(one.boxes), one.crowd.tolist(), strict=True))


def _with_sides(boxes: np.ndarray) -> list[list[float]]:
    """Corners as x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(float).tolist()
