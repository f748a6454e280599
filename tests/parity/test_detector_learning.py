"""What a detector learns from, against the released matching and attribute losses.

Differs, each on purpose:
- An object without any attribute is to be "none". MILVLG leaves a region without labels out, VinVL counts it in the
  mean without a cost (rows of labels that are all ignored).
- An attribute that stands twice among an object's is one. MILVLG counts it twice; VinVL, whose targets are shares of
  how many labels there are, lets such a row sum to less than 1.
- VinVL's mean is over all regions; ours is over a picture's regions with an object, as MILVLG's.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from diptych.data.batch import Batch, ObjectPart
from diptych.detector import recipes
from diptych.detector.faster_rcnn import FasterRCNN
from diptych.detector.sampling import even_shares
from diptych.objectives.detection import Detected, Detection, Drawn


@pytest.fixture(scope="module")
def cases(golden):
    return golden("detector")


@pytest.fixture(scope="module")
def model():
    return FasterRCNN(replace(recipes.tiny().model, attribute_fields=(), classes=("thing",)))


def thresholds_in(name):
    """ "03_07" are two shares."""
    return [float(f"{part[0]}.{part[1:]}") for part in name.split("_")]


def test_overlaps(cases):
    assert_close(box_iou(cases["match/gt"], cases["match/boxes"]), cases["match/iou"], rtol=1e-5, atol=1e-6)


def test_anchors_are_matched_to_objects(cases, model):
    """Our thresholds are the paper's; those of the set are set for it. A match is compared where there is one."""
    anchors, objects = cases["match/boxes"], cases["match/gt"]
    names = [name for name in cases.names("match/") if re.fullmatch(r"rpn_\d+_\d+_label", name)]
    assert names
    for name in names:
        expected = cases["match/" + name]
        low, high = thresholds_in(name.removeprefix("rpn_").removesuffix("_label"))
        model.rpn.proposal_matcher = Matcher(high, low, allow_low_quality_matches=True)
        (labels,), (nearest,) = model.rpn.assign_targets_to_anchors([anchors], [{"boxes": objects}])
        assert labels.tolist() == expected.tolist()
        matched = cases["match/" + name.replace("label", "index")]
        assert torch.equal(nearest[expected == 1], objects[matched[expected == 1]])


def test_proposals_are_matched_to_objects(cases, model):
    boxes, objects = cases["match/boxes"], cases["match/gt"]
    classes = 1 + torch.arange(len(objects))
    names = [name for name in cases.names("match/") if re.fullmatch(r"roi_\d+_label", name)]
    assert names
    for name in names:
        expected = cases["match/" + name]
        (threshold,) = thresholds_in(name.removeprefix("roi_").removesuffix("_label"))
        model.roi_heads.proposal_matcher = Matcher(threshold, threshold, allow_low_quality_matches=False)
        (matched,), (labels,) = model.roi_heads.assign_targets_to_proposals([boxes], [objects], [classes])
        assert (labels > 0).tolist() == (expected == 1).tolist()
        right = cases["match/" + name.replace("label", "index")][expected == 1]
        assert matched[expected == 1].tolist() == right.tolist()
        assert labels[expected == 1].tolist() == classes[right].tolist()


def test_without_objects_everything_is_background(cases, model):
    boxes = cases["match/boxes"]
    (anchors,), _ = model.rpn.assign_targets_to_anchors([boxes], [{"boxes": boxes[:0]}])
    (matched,), (labels,) = model.roi_heads.assign_targets_to_proposals(
        [boxes], [boxes[:0]], [torch.zeros(0, dtype=torch.long)]
    )
    expected = cases["match/no_gt_label"].tolist()
    assert anchors.tolist() == labels.tolist() == expected
    assert matched.tolist() == cases["match/no_gt_index"].tolist()


def known(labels, width):
    """(R, A) how often each attribute stands among an object's labels, "none" (0) and what is ignored (-1) apart."""
    return torch.stack([torch.bincount(row[row > 0], minlength=width)[1:] for row in labels])


def test_attributes_are_even_shares(cases):
    """Where an object has attributes, each once, VinVL's targets are ours; see above for the others."""
    expected = cases["attr_loss/vinvl_targets"]
    times = known(cases["attr_loss/labels"], expected.shape[1])
    ours = even_shares(times > 0)
    alike = (times.sum(1) > 0) & (times.max(1).values <= 1)
    assert alike.any()
    assert_close(ours[alike], expected[alike])
    assert (ours[times.sum(1) == 0, 0] == 1).all() and (expected[times.sum(1) == 0] == 0).all()
    assert_close(ours.sum(1), torch.ones(len(ours)))


def test_the_loss_of_attributes(cases):
    """The mean over a region's labels, then over regions that have any, by its weight."""
    logits, labels = cases["attr_loss/logits"], cases["attr_loss/labels"]
    found = {name: value for name, value in cases.facts["attr_loss"].items() if name.startswith("weight_")}
    assert found
    there = (labels >= 0).any(dim=1)
    times = torch.stack([torch.bincount(row[row >= 0], minlength=logits.shape[1]) for row in labels[there]])
    right = times / times.sum(1, keepdim=True)
    for name, expected in found.items():
        objective = Detection(attribute_weight=float(name.removeprefix("weight_")))
        term = objective.loss(lambda _: detected(logits[there], right), one_picture(logits), {}).terms["attributes"]
        assert float(term.weight * term.total / term.count) == pytest.approx(expected, rel=1e-5)
    nothing = objective.loss(lambda _: detected(logits[:0], right[:0]), one_picture(logits), {}).terms["attributes"]
    assert float(nothing.total) == cases.facts["attr_loss"]["all_ignored"]
    theirs = F.cross_entropy(logits, cases["attr_loss/vinvl_targets"])
    assert float(theirs) == pytest.approx(cases.facts["attr_loss"]["vinvl_unweighted"], rel=1e-5)


def detected(attributes, right):
    """One picture's regions, of which all that matters is how they look."""
    where = torch.zeros(len(attributes), dtype=torch.long)
    boxes = torch.zeros(len(attributes), 4)
    drawn = Drawn(
        row=where,
        logits=torch.zeros(len(where)),
        labels=torch.ones(len(where)),
        object_row=where,
        deltas=boxes,
        right_deltas=boxes,
    )
    regions = replace(
        drawn,
        logits=torch.zeros(len(where), 2),
        labels=torch.ones(len(where), dtype=torch.long),
        attributes=attributes,
        right_attributes=right,
    )
    return Detected(objectness=(), anchors=drawn, regions=regions, found=())


def one_picture(logits):
    """A batch of a picture with an object."""
    objects = ObjectPart(
        boxes=torch.zeros(1, 1, 4),
        mask=torch.ones(1, 1, dtype=torch.bool),
        labels=torch.zeros(1, 1, dtype=torch.long),
        attributes=torch.zeros(1, 1, logits.shape[1] - 1, dtype=torch.bool),
        crowd=torch.zeros(1, 1, dtype=torch.bool),
        seeds=(0,),
    )
    return Batch(keys=("a",), group=torch.zeros(1, dtype=torch.long), objects=objects)
