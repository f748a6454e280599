"""What a training step takes of each rank, by formula: memory by part, bytes exchanged, pairs a second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from diptych.objectives.tiles import TILE
from diptych.train.cost import ModelCost

FLOAT = 4
"""Bytes of a number: weights, gradients, moments and vectors are float32 always."""
USABLE = 0.9
"""Share of a GPU's memory that tensors can have; the rest is the driver's, the libraries' and lost between blocks."""
PARTS = (
    "weights", "gradients", "moments", "averaged weights", "exchange", "vectors", "tiles", "batch", "activations",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a step is laid out over ranks."""

    batch: int
    """Pairs of a step, over all ranks."""
    ranks: int
    parallel: Literal["ddp", "fsdp2"]
    micro_batch: int
    """Pairs that go through a rank's model at once."""
    couples_rows: bool = True
    """Whether the objective compares rows of all ranks, as contrast does."""

    @property
    def local(self) -> int:
        """Pairs of a rank."""
        return -(-self.batch // self.ranks)

    @property
    def parts(self) -> int:
        """Micro-batches of a rank."""
        return -(-self.local // self.micro_batch)

    @property
    def caching(self) -> bool:
        """Whether vectors are cached and every part goes forward twice."""
        return self.couples_rows and self.parts > 1

    @property
    def passes(self) -> int:
        """Times that the model is gone through in a step, forward and backward apart."""
        return self.parts * (3 if self.caching else 2)


def memory_parts(cost: ModelCost, layout: Layout, *, averaged: bool = False) -> dict[str, int]:
    """Bytes of a rank by part, in the order of PARTS; an upper bound, since not all are at their highest at once.

    Weights, gradients, and AdamW's two moments are 4 bytes a parameter each, so are averaged weights; FSDP2 gives every
    rank its share. To exchange, DDP copies gradients into buckets (4 bytes a parameter more); FSDP2 gathers what lies
    outside of the stacks and two of their layers (one in use, one on its way), with the gradients of as many. Over
    several micro-batches FSDP2 adds gradients up whole and shards them once.

    Vectors are there four times: as they are, normalised, and the gradient of both (under the sigmoid loss the gradient
    of the normalised ones twice, when these are gone). They are this rank's, and those of all ranks where there are
    several. The loss has two tiles at a time, on a CPU less. The rank's batch lies on its device as a whole.

    Args:
        cost: of the model.
        layout: of the step.
        averaged: with averaged weights (`optim.ema`).
    """
    whole = FLOAT * cost.parameters
    sharded = layout.parallel == "fsdp2" and layout.ranks > 1
    share = -(-whole // layout.ranks) if sharded else whole
    gradients, exchange = share, 0
    if sharded:
        gathered = FLOAT * min(cost.root + 2 * cost.largest_block, cost.parameters)
        gradients = whole if layout.parts > 1 else share
        exchange = gathered if layout.parts > 1 else 2 * gathered
    elif layout.ranks > 1:
        exchange = whole
    vectors = 4 * FLOAT * cost.vector_width if layout.couples_rows else 0
    tiles = 2 * FLOAT * min(TILE, layout.local) * min(TILE, layout.batch) if layout.couples_rows else 0
    rows = layout.local + (layout.batch if layout.ranks > 1 else 0)
    return {
        "weights": share,
        "gradients": gradients,
        "moments": 2 * share,
        "averaged weights": share if averaged else 0,
        "exchange": exchange,
        "vectors": rows * vectors,
        "tiles": tiles,
        "batch": layout.local * cost.batch_bytes,
        "activations": cost.constant_bytes + min(layout.micro_batch, layout.local) * cost.activation_bytes,
    }


def largest_micro_batch(cost: ModelCost, layout: Layout, memory: int, *, averaged: bool = False) -> int:
    """Pairs that go through a rank's model at once within `memory` bytes: all of the rank's where they fit; 0: none."""
    at_once = replace(layout, micro_batch=layout.local)
    if sum(memory_parts(cost, at_once, averaged=averaged).values()) <= USABLE * memory:
        return layout.local
    of_one = sum(memory_parts(cost, replace(layout, micro_batch=1), averaged=averaged).values())
    left = USABLE * memory - of_one
    return 0 if left < 0 else min(1 + int(left // cost.activation_bytes), layout.local - 1)


def first_too_large(cost: ModelCost, layout: Layout, memory: int, *, averaged: bool = False) -> str | None:
    """The part, in the order of PARTS, at which a rank's memory is full; None where all fit."""
    used = 0
    for part, size in memory_parts(cost, layout, averaged=averaged).items():
        used += size
        if used > USABLE * memory:
            return part
    return None


def largest_batch(cost: ModelCost, layout: Layout, memory: int, *, averaged: bool = False) -> int:
    """Pairs of a step, over all ranks, that fit in `memory` bytes a rank with the layout's micro-batch; 0: none.

    Args:
        cost: of the model.
        layout: its batch is not read. A micro-batch of 0 asks for the largest batch without gradient caching.
        memory: of a rank.
        averaged: with averaged weights.
    """

    def fits(local: int) -> bool:
        asked = replace(layout, batch=local * layout.ranks, micro_batch=layout.micro_batch or local)
        return first_too_large(cost, asked, memory, averaged=averaged) is None

    fitting, too_many = 0, 1
    while fits(too_many):
        fitting, too_many = too_many, 2 * too_many
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fits(middle) else (fitting, middle)
    return fitting * layout.ranks


def bytes_exchanged(cost: ModelCost, layout: Layout) -> dict[str, int]:
    """Bytes that a rank sends in a step, by what they are; it receives as many.

    A ring of W ranks sends (W - 1) / W of a tensor to gather it or to reduce and scatter it, and twice that to add it
    up everywhere. DDP adds up gradients once a step. FSDP2 gathers weights for every forward and every backward pass of
    each micro-batch, three of them under gradient caching, and scatters gradients once. Where rows see each other,
    vectors of all ranks are gathered with their groups (8 bytes), and the gradients of the vectors scattered.
    """
    away = (layout.ranks - 1) / layout.ranks
    whole = FLOAT * cost.parameters
    vectors = FLOAT * layout.batch * cost.vector_width if layout.couples_rows else 0
    gathered, scattered = (0, 2 * whole) if layout.parallel == "ddp" else (layout.passes * whole, whole)
    return {
        "weights gathered": round(away * gathered),
        "gradients added up": round(away * scattered),
        "vectors gathered": round(away * (vectors + 8 * layout.batch if vectors else 0)),
        "vector gradients scattered": round(away * vectors),
    }


def pairs_per_s(cost: ModelCost, layout: Layout, *, peak: float, utilisation: float, recompute: bool) -> float:
    """Pairs a second of all ranks: utilisation x peak / operations, what is computed again included.

    Forward is a third of forward and backward. Gradient caching goes forward twice, activation checkpointing too, both
    together three times: 4/3 or 5/3 of the operations.

    Args:
        cost: of the model.
        layout: of the step.
        peak: operations a second of one GPU.
        utilisation: the share of `peak` that a step reaches, waiting and exchange included.
        recompute: with activation checkpointing.
    """
    again = int(layout.caching) + int(recompute)
    return utilisation * peak * layout.ranks / (cost.flops * (3 + again) / 3)
