"""What a detector learns from: anchors and proposals drawn by a seed of the picture's own, attributes in shares."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_boxes(labels: Tensor, num: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which boxes of a picture take part. Fast R-CNN, arXiv:1504.08083, section 2.3.

    Differs: torchvision's sampler draws from the global generator, so that what is drawn would depend on the batch.

    Args:
        labels: (N,) of any type: above 0 where a box holds an object, 0 where none, below 0 where it is unclear.
        num: boxes at most.
        share: of them that hold an object, at most.
        generator: on the CPU, so that all devices draw the same.
    Returns:
        (P,) places of boxes that hold an object and (Q,) of others, on the device of `labels`.
    """
    objects, others = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    taken = _drawn(objects, int(num * share), generator)
    return taken, _drawn(others, num - len(taken), generator)


def even_shares(has: Tensor) -> Tensor:
    """(P, A) bool, the attributes of objects, to (P, 1 + A): each in an even share, and "none" of one without any."""
    none = ~has.any(dim=1, keepdim=True)
    right = torch.cat([none, has], dim=1).float()
    return right / right.sum(dim=1, keepdim=True)


def _drawn(places: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the places; a permutation is drawn even where all are taken, so that later draws stay."""
    order = torch.randperm(len(places), generator=generator)[:most]
    return places[order.to(places.device)]
