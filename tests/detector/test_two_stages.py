"""What both detectors promise of regions: under every rule, of pictures of any shape, with damaged weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.detector.bottom_up import BottomUpAttention
from diptych.detector.own import OwnDetector
from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.selection import ButdRule, LxmertRule, NotebookRule, Rule
from diptych.errors import DataError

RULES = [ButdRule(min_boxes=3, max_boxes=6), LxmertRule(min_boxes=3, max_boxes=6), NotebookRule(confidence=0.01)]
NOTHING = [NotebookRule(confidence=1.0), ButdRule(min_boxes=0, confidence=1.0)]
SHAPES = [(60, 40), (1, 1), (20_000, 30), (30, 20_000)]

Make = Callable[[Rule], BottomUpAttention | OwnDetector]


@pytest.fixture(params=["bottom_up", "own"])
def make(request, make_release, make_own, config) -> Make:
    """A function: one of the two detectors, with this rule."""
    if request.param == "own":
        return lambda rule: make_own(config, rule)
    return lambda rule: BottomUpAttention(make_release(), rule, soft_labels=True)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 255, (min(height, 40), min(width, 60), 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_pictures_of_any_shape_have_whole_regions(make: Make, rule: Rule, width: int, height: int) -> None:
    detector = make(rule)
    (found,) = detector.detect([picture(width, height)])
    number = len(found)
    assert (found.width_px, found.height_px) == (width, height) and number >= 1
    assert found.features.shape == (number, detector.spec.feature_width) and np.isfinite(found.features).all()
    assert found.boxes.shape == (number, 4) and found.boxes.min() >= 0
    assert (found.boxes <= np.array([width, height] * 2)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()  # regressed too, where one may be moved outside
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.soft_labels is not None and found.class_ids is not None and found.class_probs is not None
    np.testing.assert_allclose(found.soft_labels.sum(axis=1), 1, rtol=1e-5)
    picked = np.take_along_axis(found.soft_labels[:, 1:], found.class_ids, axis=1)  # ids do not count background
    np.testing.assert_array_equal(picked, found.class_probs)


@pytest.mark.parametrize("rule", NOTHING, ids=str)
def test_a_picture_with_no_detection_is_one_region_as_sure_as_its_class(make: Make, rule: Rule) -> None:
    detector, one = make(rule), picture(60, 40)
    (found,) = detector.detect([one])
    (given,) = detector.detect([one], [np.array([[0, 0, 60, 40]], np.float32)])
    np.testing.assert_allclose(found.boxes, [[0, 0, 60, 40]], atol=1e-3)
    np.testing.assert_allclose(found.features, given.features, rtol=1e-4, atol=1e-5)
    assert found.class_probs is not None and found.scores[0] == found.class_probs[0, 0] < 1


@pytest.mark.parametrize("rule", [*RULES, *NOTHING], ids=str)
@pytest.mark.parametrize(
    "names",
    [
        ("rpn.objectness.", "rpn.head.cls_logits."),
        ("rpn.deltas.", "rpn.head.bbox_pred."),
        ("head.res5.0.conv1.", "roi_heads.box_head.fc6."),
        ("predictor.classes.", "roi_heads.box_predictor.cls_score."),
    ],
)
def test_weights_that_are_not_numbers_are_an_error_and_no_empty_picture(
    make: Make, rule: Rule, names: tuple[str, str]
) -> None:
    damage(make(rule), names)


def test_so_are_they_where_they_move_the_boxes(make: Make) -> None:
    damage(make(LxmertRule()), ("predictor.boxes.", "roi_heads.box_predictor.bbox_pred."))


def damage(detector: BottomUpAttention | OwnDetector, names: tuple[str, ...]) -> None:
    (weight,) = [
        parameter
        for name, parameter in detector.model.named_parameters()
        if name.startswith(names) and name.endswith("bias")
    ]
    weight.data.fill_(torch.nan)
    with pytest.raises(DataError, match="what the detector says of this picture is not finite"):
        detector.detect([picture(60, 40)])


def test_how_many_boxes_go_together_changes_no_choice(
    make_own: Callable[..., OwnDetector], config: FasterRCNNConfig
) -> None:
    model = make_own(replace(config, proposals=20), RULES[0]).model
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        seen = model.look(torch.randint(0, 255, (3, 3, 48, 64), dtype=torch.uint8, generator=generator))
        boxes = [seen.proposals[0], seen.proposals[1][:0], seen.proposals[2]]
        whole = model.region_heads(seen, boxes)
        for number in (1, 7, 1000):
            parts = model.region_heads(seen, boxes, at_once=number)
            for name, value in vars(whole).items():
                torch.testing.assert_close(vars(parts)[name], value)
