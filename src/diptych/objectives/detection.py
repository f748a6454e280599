"""Detection: the losses of a two-stage detector, each a mean over what was drawn in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.errors import DataError
from diptych.metrics.detection import Found, Truth
from diptych.objectives.objective import Encode, Loss, RowsApart, Term

BETA = 1 / 9
"""Where the smooth L1 loss of box deltas turns from a square to a line. Faster R-CNN's code; its paper says 1."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What one stage says of the boxes that were drawn to learn from, and what would have been right.

    S boxes of all pictures, of which P hold an object.
    """

    row: Tensor
    """(S,) int64, the picture of each."""
    logits: Tensor
    """(S,) of an object being there, or (S, 1 + C) with background first."""
    labels: Tensor
    """(S,) float32, 1 where an object is; or int64, 0 for background."""
    object_row: Tensor
    """(P,)."""
    deltas: Tensor
    """(P, 4) towards the object."""
    right_deltas: Tensor
    """(P, 4)."""
    attributes: Tensor | None = None
    """(P, 1 + A) logits, "no attribute" first; None without an attribute head."""
    right_attributes: Tensor | None = None
    """(P, 1 + A), what an even mix of the object's attributes would be."""


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What a detector makes of a batch."""

    objectness: tuple[Tensor, ...]
    """(anchors,) logits of each picture."""
    anchors: Drawn | None
    """The first stage's; None where nothing is known of the pictures' objects."""
    regions: Drawn | None
    """The second stage's."""
    found: tuple[Found, ...]
    """In pixels of the batch; while the model is evaluated, else empty."""


@dataclass(frozen=True, kw_only=True)
class Detection(RowsApart):
    """Faster R-CNN's four losses, arXiv:1506.01497, equation 1, and one of attributes.

    Differs: a term is a mean over each picture's own drawn boxes, and the pictures are what is counted. Where all
    pictures have as many drawn boxes (nearly always), that is the released codes' mean; and it is known before the
    forward pass, so that no split of a batch changes a gradient.
    """

    attribute_weight: float = 0.5
    """As in bottom-up attention, arXiv:1707.07998."""

    @property
    def name(self) -> str:
        """What its draws are seeded by."""
        return "detection"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """None: the stages are the model's own."""
        return {}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The seed of what the model samples among anchors and proposals, which it alone knows."""
        if item.objects is None:
            raise DataError(f"{item.key}: a detector learns from objects, and this picture comes without")
        return replace(item, objects=replace(item.objects, seed=int(rng.integers(2**62)))), {}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Pictures; of the attributes those that have an object."""
        assert batch.objects is not None
        counts = dict.fromkeys(("rpn_class", "rpn_box", "roi_class", "roi_box"), len(batch))
        if batch.objects.attributes.shape[-1]:
            there = batch.objects.mask & ~batch.objects.crowd
            counts["attributes"] = int(there.any(dim=1).sum())
        return counts

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sums over the pictures, in nats for classes and attributes."""
        detected: Detected = encode(batch)
        anchors, regions = detected.anchors, detected.regions
        assert anchors is not None and regions is not None
        totals = {
            "rpn_class": _by_picture(
                F.binary_cross_entropy_with_logits(anchors.logits.float(), anchors.labels, reduction="none"),
                anchors.row,
                of=anchors.row,
            ),
            "rpn_box": _box_loss(anchors),
            "roi_class": _by_picture(
                F.cross_entropy(regions.logits.float(), regions.labels, reduction="none"), regions.row, of=regions.row
            ),
            "roi_box": _box_loss(regions),
        }
        if regions.attributes is not None and regions.right_attributes is not None:
            costs = F.cross_entropy(regions.attributes.float(), regions.right_attributes, reduction="none")
            totals["attributes"] = _by_picture(costs, regions.object_row, of=regions.object_row)
        counts = self.counts(batch, targets)
        weights = {"attributes": self.attribute_weight}
        return Loss(
            {
                name: Term(total=total, count=counts[name], weight=weights.get(name, 1.0))
                for name, total in totals.items()
            }
        )


def truths(batch: Batch) -> list[Truth]:
    """What is in each picture of a batch, in its pixels."""
    assert batch.objects is not None
    objects = batch.objects
    return [
        Truth(boxes=boxes[real].cpu().numpy(), labels=labels[real].cpu().numpy(), crowd=crowd[real].cpu().numpy())
        for boxes, labels, crowd, real in zip(objects.boxes, objects.labels, objects.crowd, objects.mask, strict=True)
    ]


def _box_loss(drawn: Drawn) -> Tensor:
    """Smooth L1 of the deltas, divided by all boxes that were drawn in the picture, background too."""
    costs = F.smooth_l1_loss(drawn.deltas.float(), drawn.right_deltas, beta=BETA, reduction="none").sum(1)
    return _by_picture(costs, drawn.object_row, of=drawn.row)


def _by_picture(costs: Tensor, row: Tensor, *, of: Tensor) -> Tensor:
    """() sum over the pictures of each one's costs over how often it stands in `of`."""
    if not len(of):
        return costs.sum()
    return (costs / torch.bincount(of)[row]).sum()


def joined(parts: Sequence[Drawn]) -> Drawn:
    """What was drawn in several groups of pictures, one below the other."""
    values: dict[str, Any] = {}
    for field in fields(Drawn):
        tensors = [getattr(part, field.name) for part in parts]
        values[field.name] = None if tensors[0] is None else torch.cat(tensors)
    return Drawn(**values)
