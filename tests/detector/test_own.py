"""A trained detector at work: regions and what is found, in pixels of the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from diptych.data.regions import RegionDetector
from diptych.detector.own import NUM_CLASSES, OwnDetector
from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.selection import ButdRule, LxmertRule, NotebookRule, Rule
from diptych.errors import DataError
from diptych.tasks.detection import Detector

MakeOwn = Callable[..., OwnDetector]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height))


def test_it_is_what_extraction_and_the_task_ask_for(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    detector: RegionDetector = make_own(config)
    assert isinstance(detector, Detector)
    assert (detector.spec.classes, detector.spec.attributes) == (config.classes, config.attributes)
    assert (detector.spec.feature_kind, detector.spec.feature_width) == ("fpn-box-head", 32)
    assert detector.spec.rule == "butd(min=10, max=100, conf=0.2, nms=0.3)"


def test_the_class_that_the_rule_scored_comes_first(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    """Under the notebook rule a region stands for every class that it passes in."""
    (found,) = make_own(config, NotebookRule(confidence=0.02, min_boxes=36)).detect([picture(80, 60)])
    assert found.class_ids is not None and found.soft_labels is not None
    scored = found.soft_labels[np.arange(len(found)), 1 + found.class_ids[:, 0]]
    np.testing.assert_allclose(scored, found.scores, rtol=1e-6)
    assert (found.class_ids[:, 0] != found.soft_labels[:, 1:].argmax(axis=1)).any()


def test_regions_have_every_part_in_its_range(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    (found,) = make_own(config, ButdRule(min_boxes=4, max_boxes=9)).detect([picture(80, 60)])
    assert 4 <= len(found) <= 9 and (found.height_px, found.width_px) == (60, 80)
    assert found.features.shape == (len(found), 32) and found.features.dtype == np.float32
    assert found.soft_labels is not None and found.class_ids is not None and found.class_probs is not None
    assert found.attribute_ids is not None and found.attribute_probs is not None
    assert_allclose(found.soft_labels.sum(1), 1, atol=1e-5)
    most = min(NUM_CLASSES, 3)
    assert found.class_ids.shape == (len(found), most) and found.attribute_ids.shape == (len(found), 4)
    assert_allclose(found.class_probs[:, 0], found.soft_labels[:, 1:].max(1))
    assert (np.diff(found.scores) <= 0).all() and (np.diff(found.attribute_probs, axis=1) <= 0).all()
    assert found.boxes.min() >= 0 and found.boxes[:, 2].max() <= 80 and found.boxes[:, 3].max() <= 60


def test_a_picture_is_computed_as_if_it_came_alone(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    detector, several = make_own(config), [picture(80, 60, 1), picture(40, 90, 2), picture(80, 60, 3)]
    for together, one in zip(detector.detect(several), several, strict=True):
        (alone,) = detector.detect([one])
        assert all(np.array_equal(value, vars(alone)[name]) for name, value in vars(together).items())


@pytest.mark.parametrize("rule", [ButdRule(), LxmertRule(min_boxes=5, max_boxes=5)])
def test_given_boxes_have_the_features_of_proposals_at_their_place(
    make_own: MakeOwn, config: FasterRCNNConfig, rule: Rule
) -> None:
    detector, one = make_own(config, rule), picture(80, 60)
    (found,) = make_own(config).detect([one])
    (given,) = detector.detect([one], [found.boxes])
    assert_allclose(given.features, found.features, atol=1e-4)
    assert_allclose(given.boxes, found.boxes, atol=1e-4)
    assert (given.scores == 1).all() and found.class_ids is not None and given.class_ids is not None
    assert (given.class_ids[:, 0] == found.class_ids[:, 0]).all()


def test_what_sticks_out_is_cut_off(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    detector = make_own(config)
    boxes = np.array([[-9, 20, 30, 90], [40, 2, 60, 30]], np.float32)
    (found,), (cut,) = detector.detect([picture(80, 60)], [boxes]), detector.detect([picture(80, 60)], [boxes.clip(0)])
    assert_allclose(found.boxes, [[0, 20, 30, 60], [40, 2, 60, 30]], atol=1e-4)
    assert_allclose(found.features, cut.features, atol=1e-5)


def test_one_for_given_boxes_says_so_and_asks_for_them(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    model = make_own(config)
    given = OwnDetector(model.model, model.inputs, torch.device("cpu"), "mine", box_kind="given")
    assert (given.spec.rule, given.spec.box_kind) == ("given boxes", "given")
    with pytest.raises(DataError, match="no boxes were given"):
        given.detect([picture(80, 60)])


def test_where_no_region_is_left_the_picture_is_one(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    (found,) = make_own(config, ButdRule(min_boxes=0, confidence=1.0)).detect([picture(80, 60)])
    assert_allclose(found.boxes, [[0, 0, 80, 60]], atol=1e-4)


def test_features_that_are_not_finite_are_an_error(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    detector = make_own(config)
    with torch.no_grad():
        detector.model.roi_heads.box_head.fc7.bias.fill_(float("inf"))  # type: ignore[union-attr, operator]
    with pytest.raises(DataError, match="not finite"):
        detector.detect([picture(80, 60)], [np.array([[1, 2, 30, 40]], np.float32)])


def test_the_rule_says_which_boxes_are_written(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    regressed = make_own(config, LxmertRule(min_boxes=6, max_boxes=6))
    assert regressed.spec.box_kind == "regressed" and make_own(config).spec.box_kind == "proposal"
    one = picture(80, 60)
    (found,), (seen,) = regressed.detect([one]), regressed.find([one])
    assert len(found) == 6
    best = seen.boxes[np.argmax(seen.scores)]  # the likeliest class of the likeliest proposal, moved
    assert np.abs(found.boxes - best).max(axis=1).min() < 1e-2


def test_no_given_boxes_are_no_regions(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    (found,) = make_own(config).detect([picture(80, 60)], [np.zeros((0, 4), np.float32)])
    assert len(found) == 0 and found.features.shape == (0, 32)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((4, 4, 4, 9), r"box 0, \(4, 4, 4, 9\), is empty"),
        ((80, 4, 90, 9), "lies outside the picture of 80 x 60 pixels"),
        ((0, 0, float("inf"), 2), "not finite"),
    ],
)
def test_boxes_that_are_none(make_own: MakeOwn, config: FasterRCNNConfig, box: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_own(config).detect([picture(80, 60)], [np.array([box], np.float32)])


def test_what_is_found_is_in_the_pictures_own_pixels(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    """Twice as large a picture is the same to the network, but for how it is resized."""
    detector = make_own(config)
    small, large = detector.find([picture(96, 48), picture(96, 48).resize((192, 96), Image.Resampling.NEAREST)])
    best = slice(8)  # further down equal scores change places
    assert_allclose(2 * small.boxes[best], large.boxes[best], atol=0.1)


def test_other_weights_or_settings_have_another_hash(make_own: MakeOwn, config: FasterRCNNConfig) -> None:
    same = make_own(config).spec.detector_hash
    assert same == make_own(config).spec.detector_hash and len(same) == 64
    assert same != make_own(config, seed=4).spec.detector_hash
    assert same != make_own(replace(config, proposals=49)).spec.detector_hash
