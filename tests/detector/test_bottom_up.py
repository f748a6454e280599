"""Bottom-up attention as a detector of regions: what comes out, of whatever picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diptych.data.regions import RegionDetector
from diptych.detector.bottom_up import BottomUpAttention
from diptych.detector.selection import ButdRule, LxmertRule, NotebookRule
from diptych.errors import DataError

RULES = [ButdRule(min_boxes=3, max_boxes=6), LxmertRule(min_boxes=3, max_boxes=6), NotebookRule(confidence=0.01)]


def picture(width=60, height=40, mode="RGB"):
    rng = np.random.default_rng(width)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("plus_one", [False, True])
def test_every_part_of_a_region_has_its_shape_and_range(rule, plus_one, make_release):
    release = make_release(plus_one=plus_one)
    detector: RegionDetector = BottomUpAttention(release, rule, keep=3, soft_labels=True)
    (found,) = detector.detect([picture()])
    config, number = release.config, len(found)
    assert (found.width_px, found.height_px) == (60, 40)
    assert number > 1
    assert found.boxes.shape == (number, 4)
    assert found.boxes.dtype == np.float32
    assert found.features.shape == (number, config.feature_width) == (number, detector.spec.feature_width)
    assert found.soft_labels.shape == (number, 1 + config.num_classes)
    assert found.class_ids.shape == found.class_probs.shape == found.attribute_ids.shape == (number, 3)
    assert found.class_ids.dtype == found.attribute_ids.dtype == np.int32
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.boxes.min() >= 0
    assert (found.boxes <= np.array([60, 40, 60, 40]) + 1e-3).all()
    np.testing.assert_allclose(found.soft_labels.sum(axis=1), 1, rtol=1e-5)
    picked = np.take_along_axis(found.soft_labels[:, 1:], found.class_ids, axis=1)  # ids do not count background
    np.testing.assert_array_equal(picked, found.class_probs)


def test_the_class_that_a_region_was_taken_for_comes_first(release):
    (found,) = BottomUpAttention(release, NotebookRule(confidence=0.01), keep=5).detect([picture()])
    np.testing.assert_array_equal(found.scores, found.class_probs[:, 0])
    assert (np.diff(found.class_probs[:, 1:], axis=1) <= 0).all()
    assert (np.sort(found.class_ids, axis=1) == np.arange(5)).all()


def test_the_spec_says_what_the_regions_are_made_with(release):
    spec = BottomUpAttention(release, ButdRule(), consumer="uniter-base, released").spec
    assert spec.detector == "bottom-up attention, R20-C4"
    assert spec.detector_hash == release.fingerprint()
    assert spec.rule == "butd(min=10, max=100, conf=0.2, nms=0.3)"
    assert (spec.box_kind, spec.box_unit, spec.plus_one, spec.colour) == ("proposal", "pixel", False, "BGR")
    assert (spec.consumer, spec.feature_kind) == ("uniter-base, released", "c4-mean")
    assert spec.classes == release.classes
    assert BottomUpAttention(release, LxmertRule()).spec.box_kind == "regressed"
    assert BottomUpAttention(release, box_kind="given").spec.rule == "given boxes"


def test_the_box_may_be_the_other_one_the_feature_is_the_proposals(release):
    rule = ButdRule(min_boxes=3, max_boxes=6)
    (proposals,) = BottomUpAttention(release, rule).detect([picture()])
    (regressed,) = BottomUpAttention(release, rule, box_kind="regressed").detect([picture()])
    assert not np.allclose(proposals.boxes, regressed.boxes)
    np.testing.assert_array_equal(proposals.features, regressed.features)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 30), (30, 20_000), (3_000, 1), (16, 16)])
@pytest.mark.parametrize("resize", ["factor", "size", "pillow"])
@pytest.mark.parametrize("plus_one", [False, True])
def test_pictures_of_any_shape_have_regions(width, height, resize, plus_one, make_release):
    release = make_release(plus_one=plus_one)
    release = replace(release, preprocessing=replace(release.preprocessing, resize=resize))
    (found,) = BottomUpAttention(release).detect([picture(width, height)])
    assert len(found) >= 1
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_any_mode_are_read_in_colours(mode, release):
    detector = BottomUpAttention(release)
    (found,) = detector.detect([picture(mode=mode)])
    (same,) = detector.detect([picture(mode=mode).convert("RGB")])
    np.testing.assert_array_equal(found.features, same.features)


def test_so_it_is_where_nothing_is_proposed(make_release):
    (found,) = BottomUpAttention(make_release(min_side=1000.0), LxmertRule(), box_kind="proposal").detect([picture()])
    np.testing.assert_allclose(found.boxes, [[0, 0, 60, 40]], atol=1e-3)


def test_given_boxes_keep_their_order_and_are_cut_at_the_edges(release):
    boxes = np.array([[10, 5, 30, 25], [-4, 2, 70, 39.5], [0, 0, 1, 1]], dtype=np.float32)
    detector = BottomUpAttention(release, box_kind="given")
    found, empty = detector.detect([picture(), picture()], [boxes, np.zeros((0, 4), dtype=np.float32)])
    np.testing.assert_allclose(found.boxes, [[10, 5, 30, 25], [0, 2, 60, 39.5], [0, 0, 1, 1]], atol=1e-4)
    assert found.scores.tolist() == [1, 1, 1]
    assert len(empty) == 0
    assert empty.features.shape == (0, release.config.feature_width)
    with pytest.raises(DataError, match="no boxes were given"):
        detector.detect([picture()])


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([[1, 2, 3, 4], [5, 5, 5, 9]], "box 1, "),
        ([[9, 9, 3, 12]], "box 0, "),
        ([[61, 0, 70, 9]], "lies outside the picture of 60 x 40 pixels"),
        ([[0, 0, np.nan, 9]], "finite"),
        ([1, 2, 3, 4], r"shape \(4,\)"),
    ],
)
def test_boxes_that_are_empty_outside_or_none_are_refused(box, said, release):
    with pytest.raises(DataError, match=said):
        BottomUpAttention(release).detect([picture()], [np.array(box, dtype=np.float32)])


def test_a_detector_without_attributes_gives_none(make_release):
    (found,) = BottomUpAttention(make_release(num_attributes=0)).detect([picture()])
    assert found.attribute_ids is None
    assert found.attribute_probs is None


def test_how_many_regions_go_together_changes_no_choice(release):
    rule = ButdRule(min_boxes=5, max_boxes=9)
    ways = [BottomUpAttention(release, rule, at_once=number).detect([picture()])[0] for number in (1, 4, 100)]
    for found in ways[1:]:
        np.testing.assert_array_equal(found.boxes, ways[0].boxes)
        np.testing.assert_allclose(found.features, ways[0].features, rtol=1e-4, atol=1e-5)
