"""The network: sizes, order of classes, quickening, what small boxes and empty pictures come to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.detector.boxes import decode
from diptych.detector.model import C4Detector, DetectorConfig
from diptych.detector.winograd import Winograd
from diptych.nn.unfilled import unfilled

PICTURE = torch.linspace(-100, 100, 2 * 3 * 47 * 70).view(2, 3, 47, 70).sin() * 50


def test_the_defaults_are_the_published_network():
    """65,545,318 numbers in 640 tensors, of which 104 count batches."""
    state = unfilled(C4Detector, DetectorConfig()).state_dict()
    assert len(state) == 640 - 104
    assert sum(tensor.numel() for tensor in state.values()) == 65_545_318 - 104


@pytest.mark.parametrize(
    ("size", "cells"), [((600, 1000), (38, 63)), ((47, 70), (3, 5)), ((3, 3), (1, 1)), ((2, 1000), None)]
)
def test_the_map_is_as_large_as_caffes(make_detector, size, cells):
    model = make_detector()
    pixels = torch.zeros(1, 3, *size)
    if cells is None:
        with pytest.raises(RuntimeError):
            model.backbone(pixels)
        return
    assert model.backbone(pixels).shape == (1, model.config.map_width, *cells)


BY_WINOGRAD = {"halve_res5", "stride_in_1x1", "caffe_pool", "plus_one", "pool", "pool_samples"}
"""Changes after which res5 is computed so: there are no groups, and dilation divides the maps."""


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"halve_res5": True},
        {"stride_in_1x1": False},
        {"stride_in_1x1": False, "halve_res5": True},
        {"bottleneck": 4, "groups": 2},
        {"pool_size": 7},
        {"pool": "roi_align", "pool_samples": 2},
        {"caffe_pool": False},
        {"plus_one": True},
    ],
)
@torch.inference_mode()
def test_quickening_changes_no_number_beyond_rounding(make_detector, change):
    model = make_detector(**change)
    quick = make_detector(**change)
    quick.quicken()
    assert any(isinstance(module, Winograd) for module in quick.modules()) == (change.keys() <= BY_WINOGRAD)
    map_before, map_after = model.backbone(PICTURE), quick.backbone(PICTURE)
    assert_close(map_after, map_before, rtol=1e-4, atol=1e-4)
    assert_close(quick.rpn(map_before), model.rpn(map_before), rtol=1e-4, atol=1e-4)
    sizes, scales = [(47, 70), (40, 60)], [1.0, 1.0]
    before, after = (one.rpn.propose(map_before, sizes, scales) for one in (model, quick))
    boxes = [one.boxes for one in before]
    for theirs, ours in zip(boxes, (one.boxes for one in after), strict=True):
        assert theirs.shape == ours.shape
        # Of two scores 1e-7 apart either may come first, as a CPU rounds.
        nearest = torch.cdist(theirs, ours, p=torch.inf)
        assert max(nearest.amin(dim=0).max(), nearest.amin(dim=1).max()) < 1e-3
    features = model.head(map_before, boxes)
    assert_close(quick.head(map_before, boxes, at_once=3), features, rtol=1e-4, atol=1e-4)
    assert features.shape == (sum(map(len, boxes)), model.config.feature_width)


@pytest.mark.parametrize(("size", "dilation"), [(14, 2), (14, 1), (7, 1), (5, 1), (9, 3), (4, 2)])
def test_a_convolution_by_winograd_is_the_convolution(size, dilation):
    torch.manual_seed(1)
    conv = nn.Conv2d(5, 6, 3, padding=dilation, dilation=dilation)
    feature_map = torch.randn(3, 5, size, size)
    assert_close(Winograd(conv, size)(feature_map), conv(feature_map), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plus_one", [False, True])
@torch.inference_mode()
def test_proposals_lie_in_the_picture_best_first_and_are_long_enough(make_detector, plus_one):
    model = make_detector(plus_one=plus_one, min_side=12.0)
    (found, _) = model.rpn.propose(model.backbone(PICTURE), [(44, 66), (47, 70)], [1.5, 1.0])
    assert 0 < len(found.boxes) <= model.config.post_nms
    assert found.logits.tolist() == sorted(found.logits.tolist(), reverse=True)
    last = float(plus_one)
    assert found.boxes.amin() >= 0
    assert (found.boxes <= torch.tensor([66 - last, 44 - last] * 2)).all()
    shortest = (found.boxes[:, 2:] - found.boxes[:, :2] + last).amin()
    assert shortest >= 12 * 1.5 if plus_one else shortest > 12


@torch.inference_mode()
def test_features_of_a_picture_do_not_depend_on_its_neighbours_in_a_batch_of_one_size(make_detector):
    model = make_detector()
    boxes = [torch.tensor([[0.0, 0.0, 40.0, 30.0]]), torch.tensor([[5.0, 5.0, 20.0, 40.0], [1.0, 1.0, 9.0, 9.0]])]
    together = model.head(model.backbone(PICTURE), boxes)
    for index, rows in ((0, slice(0, 1)), (1, slice(1, 3))):
        alone = model.head(model.backbone(PICTURE[index : index + 1]), [boxes[index]])
        assert_close(together[rows], alone, rtol=1e-4, atol=1e-5)
    assert model.head(model.backbone(PICTURE), [boxes[0][:0], boxes[1][:0]]).shape == (0, model.config.feature_width)


def test_no_attribute_competes_in_caffes_softmax_only(make_detector):
    for competes in (False, True):
        model = make_detector(no_attribute_competes=competes)
        config, branch = model.config, model.predictor.attributes
        features = torch.rand(4, config.feature_width)
        probs = torch.rand(4, 1 + config.num_classes).softmax(dim=1)
        found = branch.probs(features, probs)
        logits = branch(features, probs.argmax(dim=1))
        assert found.shape == (4, config.num_attributes)
        if competes:
            assert_close(found.sum(dim=1), 1 - logits.softmax(dim=1)[:, 0])
        else:
            assert_close(found.sum(dim=1), torch.ones(4))


def test_regression_of_one_class_is_that_of_all(make_detector):
    model = make_detector()
    features, proposals = torch.rand(3, model.config.feature_width), torch.tensor([[1.0, 2.0, 30.0, 20.0]] * 3)
    class_ids = torch.tensor([4, 0, 2])
    every = F.linear(features, model.predictor.boxes.weight, model.predictor.boxes.bias).view(3, -1, 4)
    moved = model.predictor.regress(features, proposals, class_ids)
    assert_close(moved, decode(every[torch.arange(3), class_ids], proposals, model.config.box_weights))


def test_gradients_reach_every_part_but_the_norms(make_detector):
    model = make_detector().train()
    feature_map = model.backbone(PICTURE)
    logits, deltas = model.rpn(feature_map)
    features = model.head(feature_map, [torch.tensor([[0.0, 0.0, 40.0, 30.0]])] * 2)
    predictor = model.predictor
    attributes = predictor.attributes(features, torch.tensor([1, 2]))
    outs = (logits, deltas, predictor.classes(features), predictor.boxes(features), attributes)
    sum(out.square().sum() for out in outs).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any("norm" in name for name, _ in model.named_parameters())
