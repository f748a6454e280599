"""A GPU finds the regions that a CPU finds: every stage of bottom-up attention, and whole detectors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision import ops

from diptych.detector.bottom_up import BottomUpAttention
from diptych.detector.boxes import nms
from diptych.detector.learning_inputs import LearningInputs
from diptych.detector.own import OwnDetector
from diptych.detector.selection import ButdRule, LxmertRule, NotebookRule, nms_by_class
from diptych.train.run import InputSettings

pytestmark = pytest.mark.gpu

PICTURE = torch.linspace(-100, 100, 2 * 3 * 47 * 70).view(2, 3, 47, 70).sin() * 50


def chance_boxes(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    corner = 40 * torch.rand(num, 2, generator=generator)
    return torch.cat([corner, corner + 5 + 30 * torch.rand(num, 2, generator=generator)], dim=1), torch.rand(
        num, generator=generator
    )


@pytest.mark.parametrize("plus_one", [False, True])
def test_suppression(plus_one):
    boxes, scores = chance_boxes(200)
    class_ids = torch.arange(200) % 7
    expected = nms(boxes, scores, 0.4, plus_one=plus_one)
    assert nms(boxes.cuda(), scores.cuda(), 0.4, plus_one=plus_one).tolist() == expected.tolist()
    found = nms_by_class(boxes.cuda(), scores.cuda(), class_ids.cuda(), 0.4, plus_one=plus_one)
    assert found.tolist() == nms_by_class(boxes, scores, class_ids, 0.4, plus_one=plus_one).tolist()


def test_equal_scores_keep_their_order():
    """Which of two alike is kept decides which region is written."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 0, 40, 10], [0, 0, 10, 10]])
    scores = torch.full((4,), 0.5)
    assert nms(boxes, scores, 0.5).tolist() == [0, 2]
    assert nms(boxes.cuda(), scores.cuda(), 0.5).tolist() == [0, 2]


def test_pooling_of_regions():
    boxes, _ = chance_boxes(9)
    feature_map = torch.randn(1, 6, 20, 20, generator=torch.Generator().manual_seed(2))
    for pool in (ops.roi_align, ops.roi_pool):
        expected = pool(feature_map, [boxes], 7, 1 / 4)
        assert_close(pool(feature_map.cuda(), [boxes.cuda()], 7, 1 / 4).cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{}, {"halve_res5": True}, {"pool": "roi_align", "pool_samples": 2}, {"plus_one": True}], ids=str
)
@pytest.mark.parametrize("quick", [False, True])
@torch.inference_mode()
def test_every_stage(make_detector, change, quick):
    there, here = make_detector(**change).cuda(), make_detector(**change)
    if quick:
        there.quicken()
    sizes, scales = [(47, 70), (40, 60)], [1.0, 1.0]
    feature_map = here.backbone(PICTURE)
    assert_close(there.backbone(PICTURE.cuda()).cpu(), feature_map, rtol=1e-4, atol=1e-3)
    expected = here.rpn.propose(feature_map, sizes, scales)
    found = there.rpn.propose(feature_map.cuda(), sizes, scales)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours.boxes.cpu(), theirs.boxes, rtol=0, atol=1e-3)
    boxes = [one.boxes for one in expected]
    features = here.head(feature_map, boxes)
    assert_close(there.head(feature_map.cuda(), [one.cuda() for one in boxes]).cpu(), features, rtol=1e-4, atol=1e-3)
    probs = here.predictor.class_probs(features)
    assert_close(there.predictor.class_probs(features.cuda()).cpu(), probs, rtol=1e-4, atol=1e-5)
    attributes = here.predictor.attributes.probs(features, probs)
    assert_close(
        there.predictor.attributes.probs(features.cuda(), probs.cuda()).cpu(), attributes, rtol=1e-4, atol=1e-5
    )


def picture() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((80, 60))


def same_regions(found, expected) -> None:
    assert len(found) == len(expected) > 1
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.features, expected.features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_array_equal(found.class_ids[:, 0], expected.class_ids[:, 0])
    np.testing.assert_allclose(found.attribute_probs, expected.attribute_probs, atol=1e-4)


@pytest.mark.parametrize(
    "rule", [ButdRule(min_boxes=3, max_boxes=6), LxmertRule(min_boxes=3, max_boxes=6), NotebookRule()], ids=str
)
def test_the_same_regions_of_a_picture(make_release, rule):
    there, here = (BottomUpAttention(make_release(), rule, device=device) for device in ("cuda", "cpu"))
    (found,), (expected,) = there.detect([picture()]), here.detect([picture()])
    same_regions(found, expected)
    boxes = np.array([[3.0, 4, 50, 40], [10, 1, 30, 55]], dtype=np.float32)
    there, here = (BottomUpAttention(make_release(), box_kind="given", device=device) for device in ("cuda", "cpu"))
    same_regions(there.detect([picture()], [boxes])[0], here.detect([picture()], [boxes])[0])


def test_the_same_regions_by_ones_own_detector(make_own, config):
    here = make_own(config, ButdRule(min_boxes=4, max_boxes=9))
    inputs = LearningInputs(config, InputSettings(transform="none"))
    model = copy.deepcopy(here.model).cuda()
    there = OwnDetector(model, inputs, torch.device("cuda"), "mine", ButdRule(min_boxes=4, max_boxes=9))
    same_regions(there.detect([picture()])[0], here.detect([picture()])[0])
