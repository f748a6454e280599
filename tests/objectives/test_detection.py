"""The losses of a detector, on numbers that can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from diptych.data.batch import Batch, ObjectPart
from diptych.data.sample import Item, KnownObjects, random_for
from diptych.errors import DataError
from diptych.objectives.detection import BETA, Detected, Detection, Drawn, joined


def batch(attributes: int = 2) -> Batch:
    """Three pictures: two objects, none, and a crowd alone."""
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    return Batch(
        keys=("a", "b", "c"),
        group=torch.arange(3),
        objects=ObjectPart(
            boxes=torch.zeros(3, 2, 4),
            mask=mask,
            labels=torch.zeros(3, 2, dtype=torch.int64),
            attributes=torch.zeros(3, 2, attributes, dtype=torch.bool),
            crowd=torch.tensor([[False, False], [False, False], [True, False]]),
            seeds=(1, 2, 3),
        ),
    )


def drawn(**more: Any) -> Drawn:
    """Even logits: one box with an object and three without in the first picture, two without in the second."""
    return Drawn(
        row=torch.tensor([0, 0, 0, 0, 1, 1]),
        object_row=torch.tensor([0]),
        deltas=torch.tensor([[0.0, 0.0, 2.0, BETA]]),
        right_deltas=torch.tensor([[0.0, 0.0, 1.0, 0.0]]),
        **more,
    )


def detected(attributes: bool = True) -> Detected:
    none = {"attributes": torch.zeros(1, 3), "right_attributes": torch.tensor([[0.0, 0.5, 0.5]])} if attributes else {}
    return Detected(
        objectness=(),
        anchors=drawn(logits=torch.zeros(6), labels=torch.tensor([1.0, 0, 0, 0, 0, 0])),
        regions=drawn(logits=torch.zeros(6, 5), labels=torch.tensor([3, 0, 0, 0, 0, 0]), **none),
        found=(),
    )


def test_every_picture_is_a_mean_over_its_own() -> None:
    """Even odds cost log 2 and, of five classes, log 5 each; two pictures have boxes, so the sums are twice that."""
    loss = Detection().loss(lambda _: detected(), batch(), {})  # type: ignore[arg-type]
    totals = {name: float(term.total) for name, term in loss.terms.items()}
    assert totals["rpn_class"] == pytest.approx(2 * math.log(2))
    assert totals["roi_class"] == pytest.approx(2 * math.log(5))
    assert totals["attributes"] == pytest.approx(math.log(3))
    # Of smooth L1: beyond beta the distance less beta / 2, at beta a half of it; over the four boxes of the picture.
    assert totals["rpn_box"] == totals["roi_box"] == pytest.approx(((1 - BETA / 2) + BETA / 2) / 4)


def test_pictures_are_counted_and_for_attributes_those_with_objects() -> None:
    counts = Detection().counts(batch(), {})
    assert counts == {"rpn_class": 3, "rpn_box": 3, "roi_class": 3, "roi_box": 3, "attributes": 1}
    assert "attributes" not in Detection().counts(batch(attributes=0), {})


def test_attributes_weigh_half() -> None:
    loss = Detection().loss(lambda _: detected(), batch(), {})  # type: ignore[arg-type]
    assert {name: term.weight for name, term in loss.terms.items()} == {
        "rpn_class": 1, "rpn_box": 1, "roi_class": 1, "roi_box": 1, "attributes": 0.5,
    }  # fmt: skip
    assert "attributes" not in Detection().loss(lambda _: detected(attributes=False), batch(0), {})  # type: ignore[arg-type]


def test_nothing_drawn_costs_nothing() -> None:
    empty = Drawn(
        row=torch.zeros(0, dtype=torch.int64),
        logits=torch.zeros(0),
        labels=torch.zeros(0),
        object_row=torch.zeros(0, dtype=torch.int64),
        deltas=torch.zeros(0, 4),
        right_deltas=torch.zeros(0, 4),
    )
    both = joined([empty, drawn(logits=torch.zeros(6), labels=torch.zeros(6))])
    assert both.row.tolist() == [0, 0, 0, 0, 1, 1]
    silent = Detected(objectness=(), anchors=empty, regions=detected().regions, found=())
    loss = Detection().loss(lambda _: silent, batch(), {})  # type: ignore[arg-type]
    assert float(loss.terms["rpn_class"].total) == float(loss.terms["rpn_box"].total) == 0


def test_a_draw_is_a_seed() -> None:
    none = torch.zeros(0)
    item = Item(key="a", group=1, objects=KnownObjects(boxes=none, labels=none, attributes=none, crowd=none))
    seeds = [Detection().draw(item, None, random_for(0, epoch, "a"))[0].objects.seed for epoch in (0, 1, 0)]  # type: ignore[union-attr]
    assert seeds[0] == seeds[2] != seeds[1]
    with pytest.raises(DataError, match="a: a detector learns from objects"):
        Detection().draw(Item(key="a", group=1), None, random_for(0, 0, "a"))
