"""The micro-batch that fits: found once, by real passes over rows of the first batch, where its setting is "auto"."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diptych.data.batch import Batch, Targets, move_targets, rows_of_targets
from diptych.objectives.objective import Dual
from diptych.progress import spoken_size
from diptych.ranks import Ranks
from diptych.train.budget import USABLE, Layout, memory_parts
from diptych.train.caching import accumulate_gradients, same_buffers
from diptych.train.cost import ModelCost
from diptych.train.learner import Learner
from diptych.train.live_bytes import LiveBytes, tensors_of
from diptych.train.memory import PeakMemory, anonymous_bytes, free_bytes
from diptych.train.out_of_memory import ran_out
from diptych.train.step import reseed

CPU_SHARE = 0.5
"""Of what a machine has free: other programs, batches that are loaded ahead and the cache of files live there too."""
CPU_ENOUGH = 4 * 2**30
"""Bytes of a micro-batch on a CPU, which is busy with far smaller ones too; caching costs the same for all sizes."""
TELLING = 1 / 8
"""A pass that takes this share of what a micro-batch may is large enough to go by."""


ENDLESS = 2**62
"""Infinity, among whole numbers that processes tell each other."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A micro-batch, and why it is that."""

    rows: int
    reason: str


def fitting_micro_batch(
    learner: Learner,
    batch: Batch,
    targets: Targets,
    layout: Layout,
    *,
    agreed: Callable[[float], float] = lambda number: number,
    explained: Callable[[int], AbstractContextManager[None]] = lambda rows: nullcontext(),
) -> Fitted:
    """The largest micro-batch that fits, found by forward and backward passes; weights and buffers stay as they are.

    Memory is torch's own account on CUDA. Elsewhere what tensors held at once is counted, and on Linux what the process
    grew by besides; the larger one is taken.

    Args:
        learner: before its first step.
        batch: the rows of this process in one step, less by those that cannot be read; its texts are taken to be as
            long as any will be.
        targets: drawn for them.
        layout: of the step over processes; its micro-batch is not read.
        agreed: the largest of what all processes call it with, at the same moments: so they all go the same way.
        explained: put around a pass over so many rows; sees the errors that end the search.
    """
    if -agreed(-len(batch)) < 2:
        return Fitted(rows=layout.local, reason="the first batch has too few rows to measure with")
    with same_buffers(learner.model), _not_compiled(learner):
        with explained(2):
            _one_pass(learner, batch, targets, 2)  # gradients are there from now on, as they are between micro-batches
            beside = _bytes_beside(learner, batch, layout)
        room = -agreed(beside - _share(learner.device) * free_bytes(learner.device))

        def bytes_of_pass(size: int) -> float:
            with explained(size):
                taken = _bytes_of_pass(learner, batch, targets, size)
            return agreed(taken)

        found = largest_fitting(
            bytes_of_pass,
            rows=layout.local,
            room=room,
            enough=CPU_ENOUGH if learner.device.type == "cpu" else math.inf,
        )
    learner.optimizer.zero_grad(set_to_none=True)
    return found


def largest_fitting(bytes_of_pass: Callable[[int], float], *, rows: int, room: float, enough: float) -> Fitted:
    """All `rows` at once where they fit, so that nothing is computed twice; else a power of two that does.

    A pass takes the most that it has at one of several moments, and each of these grows with the rows along a line that
    begins above zero. So bytes a row only fall as passes grow: those of a small one are an upper bound for all larger
    ones, and a close one as soon as activations are most of it. Passes grow twofold until the bound says that all rows
    fit, or is close.

    Args:
        bytes_of_pass: what a pass over so many rows takes; infinite where memory ran out.
        rows: to go through the model in one step, at least 2.
        room: bytes that a pass may take.
        enough: bytes beyond which a larger micro-batch is of no use, unless it is the whole.
    """
    goal = min(room, enough)
    size, taken, most = 2, bytes_of_pass(2), rows
    if math.isinf(taken):
        return Fitted(rows=1, reason="memory ran out in a pass over 2")
    while taken * rows > room * size and taken < TELLING * goal and 2 * size <= rows:
        if math.isinf(more := bytes_of_pass(2 * size)):
            most = size
            break
        size, taken = 2 * size, more
    measured = f"a pass over {size} took {spoken_size(taken)}, and {spoken_size(room)} may be used"
    if most == rows and taken * rows <= room * size:
        return Fitted(rows=rows, reason=measured)
    fitting = min(most, int(max(goal, 0) * size / taken))
    return Fitted(rows=2 ** int(math.log2(max(fitting, 1))), reason=measured)


def largest_over(ranks: Ranks) -> Callable[[float], float]:
    """What `fitting_micro_batch` asks all processes with."""

    def largest(number: float) -> float:
        found = max(one for (one,) in ranks.gathered([int(min(number, ENDLESS))]))
        return math.inf if found == ENDLESS else found

    return largest


def _share(device: torch.device) -> float:
    return CPU_SHARE if device.type == "cpu" else USABLE


def _one_pass(learner: Learner, batch: Batch, targets: Targets, size: int) -> None:
    """Forward and backward over the first rows, as a step does it."""
    part, drawn = batch.rows(0, size).to(learner.device), rows_of_targets(targets, 0, size)
    seeds = partial(reseed, learner.settings.seed, 0, learner.parallel.ranks.rank)
    accumulate_gradients(learner.parallel, part, move_targets(drawn, learner.device), micro_batch=None, reseed=seeds)


def _bytes_of_pass(learner: Learner, batch: Batch, targets: Targets, size: int) -> float:
    """The most that a pass takes beyond what is there before it; infinite where there is not so much."""
    device = learner.device
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            _one_pass(learner, batch, targets, size)
            return torch.cuda.max_memory_allocated(device) - before
        before = anonymous_bytes()
        with PeakMemory() as process, LiveBytes(_resident(learner, batch)) as tensors:
            _one_pass(learner, batch, targets, size)
        return max(tensors.peak, process.bytes - before)
    except (RuntimeError, MemoryError) as error:
        if learner.parallel.ranks.size > 1 or not ran_out(error):  # the other ranks wait in the middle of the pass
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the pass that failed had is whole again, not in its pieces
    return math.inf


def _resident(learner: Learner, batch: Batch) -> list[Tensor]:
    parameters = list(learner.model.parameters())
    gradients = [one.grad for one in parameters if one.grad is not None]
    return [*parameters, *gradients, *learner.model.buffers(), *tensors_of(batch)]


@torch.no_grad()
def _bytes_beside(learner: Learner, batch: Batch, layout: Layout) -> int:
    """What a step will have beside weights, gradients and a pass, by formula: none of it is there yet."""
    encoding = learner.parallel(batch.rows(0, 2).to(learner.device))
    width = encoding.image.shape[1] + encoding.text.shape[1] if isinstance(encoding, Dual) else 0
    learning = [one for one in learner.model.parameters() if one.requires_grad]
    sizes = ModelCost(
        parameters=sum(one.numel() for one in learning),
        flops=0,
        activation_bytes=0,
        constant_bytes=0,
        batch_bytes=sum(one.nbytes for one in tensors_of(batch)) // len(batch),
        vector_width=width,
        largest_block=0,
        root=0,
    )
    parts = memory_parts(sizes, layout)
    return sum(parts[name] for name in ("moments", "vectors", "tiles", "batch"))


def _not_compiled(learner: Learner) -> AbstractContextManager[Any]:
    """Passes of several sizes would be compiled one by one, and then take no more memory than these."""
    return torch.compiler.set_stance("force_eager") if learner.settings.compile else nullcontext()
