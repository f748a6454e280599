"""The gradient of a whole batch from parts that fit in memory, with no change to it.

Where the objective's rows do not see each other, sums over parts are divided by the counts of the whole. Where they do
(contrast), gradients are cached: vectors of all parts first, without a graph; the loss of the whole batch, and its
gradient at the vectors; then each part again with its graph, to carry that gradient on to the weights (GradCache,
arXiv:2101.06983). The temperature belongs to no part: its gradient enters once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets, rows_of_targets
from diptych.objectives.objective import Dual, Encode, Loss
from diptych.ranks import ALONE, Ranks
from diptych.train.gathering import GatheringEncode
from diptych.train.parallel import Parallel


def accumulate_gradients(
    parallel: Parallel,
    batch: Batch,
    targets: Targets,
    *,
    micro_batch: int | None,
    reseed: Callable[[int], None],
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Loss:
    """Adds the gradient of the loss of all ranks' batches, divided by their counts, to the parameters' `grad`.

    Args:
        parallel: the model and the objective, as the ranks run them.
        batch: this rank's rows of one optimizer step, at least one.
        targets: what the objective drew for them.
        micro_batch: rows that go through the model at once; None: all.
        reseed: called with the number of a micro-batch before each pass over it.
        scaled: what the divided loss goes through before the backward pass (fp16 multiplies it).
    Returns:
        The loss of all ranks' batches, undivided and without a graph.
    """
    objective, ranks = parallel.step.objective, parallel.ranks
    own = objective.counts(batch, targets)
    counts = dict(zip(own, map(sum, zip(*ranks.gathered(list(own.values())), strict=True)), strict=True))
    parts = _parts(len(batch), micro_batch, ranks)
    around = partial(GatheringEncode, ranks=ranks) if objective.couples_rows and ranks.size > 1 else None

    def go_back(loss: Loss, weight: int = 1) -> None:
        # What is put around the step takes the mean over the ranks; what is asked for is the sum over them.
        scaled(weight * ranks.size * loss.divided(counts)).backward()

    whole = Loss()
    if objective.couples_rows and len(parts) > 1:
        cached = CachedEncode(parallel, micro_batch, reseed)
        whole = objective.loss(cached if around is None else around(cached), batch, targets)
        go_back(whole)
        cached.backward()
    else:
        for number, part in enumerate(parts):
            reseed(number)
            with parallel.part(last=number == len(parts) - 1):
                loss: Loss = parallel(part.of(batch), rows_of_targets(targets, part.start, part.stop), around)
                go_back(loss, part.weight)
            whole = whole + _without_graph(loss) if part.weight else whole
    parallel.finish()
    return _summed(_without_graph(whole), counts, ranks)


class _Part(NamedTuple):
    """Rows [start, stop) of a batch, which go through the model at once."""

    start: int
    stop: int
    weight: int = 1
    """0 for a row that only keeps step with ranks that have a part more: wrappers wait for every rank's call."""

    def of(self, batch: Batch) -> Batch:
        return batch.rows(self.start, self.stop)


def _parts(num_rows: int, micro_batch: int | None, ranks: Ranks) -> list[_Part]:
    """Parts of at most `micro_batch` rows, of equal size as far as that goes, and as many on every rank."""
    needed = 1 if micro_batch is None else -(-num_rows // micro_batch)
    num = max(most for (most,) in ranks.gathered([needed]))
    bounds = [num_rows * number // num for number in range(num + 1)]
    return [
        _Part(start, stop) if start < stop else _Part(min(start, num_rows - 1), min(start, num_rows - 1) + 1, 0)
        for start, stop in pairwise(bounds)
    ]


@dataclass(frozen=True)
class _Call:
    """One batch that the objective asked to be encoded."""

    batch: Batch
    dual: Dual
    """Its vectors, leaves of the loss's graph."""
    parts: list[_Part]
    first: int
    """The number of its first micro-batch."""


class CachedEncode:
    """An `encode` that keeps no graph of the model; `backward` makes it part by part."""

    def __init__(self, parallel: Parallel, micro_batch: int | None, reseed: Callable[[int], None]) -> None:
        self._parallel = parallel
        self._micro_batch = micro_batch
        self._reseed = reseed
        self._calls: list[_Call] = []
        self._num_parts = 0

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's; they are in the loss's graph, on the cached vectors."""
        return self._parallel.step.encode.heads

    def at_rest(self) -> AbstractContextManager[None]:
        """The model's."""
        return self._parallel.step.encode.at_rest()

    def __call__(self, batch: Batch) -> Dual:
        """The vectors of all rows, as leaves that collect the loss's gradient."""
        parts = _parts(len(batch), self._micro_batch, self._parallel.ranks)
        first = self._num_parts
        duals: list[Dual] = []
        with torch.no_grad(), same_buffers(self._parallel.step.model):
            for number, part in enumerate(parts):
                self._reseed(first + number)
                dual = self._parallel(part.of(batch))
                duals += [dual] * part.weight
        self._num_parts += len(parts)
        self._calls.append(_Call(batch, _as_leaves(joined(duals)), parts, first))
        return self._calls[-1].dual

    def backward(self) -> None:
        """Carries the gradient at the vectors on to the weights, one micro-batch at a time."""
        for call in self._calls:
            for number, part in enumerate(call.parts):
                last_of_call = number == len(call.parts) - 1
                self._reseed(call.first + number)
                with self._parallel.part(last=last_of_call and call is self._calls[-1]):
                    again = self._parallel(part.of(call.batch))
                    pairs = [
                        (again.image, part.weight * _gradient(call.dual.image)[part.start : part.stop]),
                        (again.text, part.weight * _gradient(call.dual.text)[part.start : part.stop]),
                    ]
                    if last_of_call:  # once, and where it is exchanged
                        pairs.append((again.scale, _gradient(call.dual.scale)))
                    reached = [(at, grad.to(at.dtype)) for at, grad in pairs if at.requires_grad]
                    torch.autograd.backward([at for at, _ in reached], [grad for _, grad in reached])


def encode_in_parts(encode: Encode, batch: Batch, micro_batch: int | None) -> Dual:
    """What `encode` makes of `batch`, `micro_batch` rows at a time."""
    return joined([encode(part.of(batch)) for part in _parts(len(batch), micro_batch, ALONE)])


def joined(duals: list[Dual]) -> Dual:
    """The vectors of several batches one below the other; the scale is the same in all."""
    return replace(
        duals[0],
        image=torch.cat([dual.image for dual in duals]),
        text=torch.cat([dual.text for dual in duals]),
        group=torch.cat([dual.group for dual in duals]),
    )


def _as_leaves(dual: Dual) -> Dual:
    return replace(
        dual,
        image=dual.image.detach().requires_grad_(),
        text=dual.text.detach().requires_grad_(),
        scale=dual.scale.detach().clone().requires_grad_(),
    )


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Puts the buffers back: the first of two passes may not count in the statistics of batch norm."""
    kept = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(model.buffers(), kept, strict=True):
            buffer.copy_(value)


def _gradient(leaf: Tensor) -> Tensor:
    """What the loss asks of it: nothing, where it was not read."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _without_graph(loss: Loss) -> Loss:
    return Loss({name: replace(term, total=term.total.detach()) for name, term in loss.terms.items()})


def _summed(loss: Loss, counts: Mapping[str, int], ranks: Ranks) -> Loss:
    """The loss of all ranks, from the local ones; `counts` are those of all."""
    totals = {name: loss.terms[name].total.clone() for name in counts}
    ranks.add_up(list(totals.values()))
    return Loss({name: replace(loss.terms[name], total=totals[name], count=counts[name]) for name in counts})
