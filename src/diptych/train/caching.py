"""The gradient of a whole batch from parts that fit in memory, with no change to it.

Where the objective's rows do not see each other, sums over parts are divided by the counts of the whole. Where they do
(contrast), gradients are cached: vectors of all parts first, without a graph; the loss of the whole batch, and its
gradient at the vectors; then each part again with its graph, to carry that gradient on to the weights (GradCache,
arXiv:2101.06983). The temperature belongs to no part: its gradient enters once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets, rows_of_targets
from diptych.objectives.objective import Dual, Encode, Loss
from diptych.train.step import Step


def accumulate_gradients(
    step: Step,
    batch: Batch,
    targets: Targets,
    *,
    micro_batch: int | None,
    reseed: Callable[[int], None],
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Loss:
    """Adds the gradient of the loss of `batch`, divided by its counts, to the parameters' `grad`.

    Args:
        step: the model and the objective.
        batch: all rows of one optimizer step.
        targets: what the objective drew for them.
        micro_batch: rows that go through the model at once; None: all.
        reseed: called with the number of a micro-batch before each pass over it.
        scaled: what the divided loss goes through before the backward pass (fp16 multiplies it).
    Returns:
        The loss of the whole batch, undivided and without a graph.
    """
    counts = step.objective.counts(batch, targets)
    if micro_batch is None or micro_batch >= len(batch):
        reseed(0)
        loss: Loss = step(batch, targets)
        scaled(loss.divided(counts)).backward()
        return _without_graph(loss)
    if step.objective.couples_rows:
        cached = CachedEncode(step.encode, step.model, micro_batch, reseed)
        loss = step.objective.loss(cached, batch, targets)
        scaled(loss.divided(counts)).backward()
        cached.backward()
        return _without_graph(loss)
    whole = Loss()
    for number, (start, stop) in enumerate(_parts(len(batch), micro_batch)):
        reseed(number)
        part: Loss = step(batch.rows(start, stop), rows_of_targets(targets, start, stop))
        scaled(part.divided(counts)).backward()
        whole = whole + _without_graph(part)
    return whole


@dataclass(frozen=True)
class _Call:
    """One batch that the objective asked to be encoded."""

    batch: Batch
    dual: Dual
    """Its vectors, leaves of the loss's graph."""
    first: int
    """The number of its first micro-batch."""


class CachedEncode:
    """An `encode` that keeps no graph of the model; `backward` makes it part by part."""

    def __init__(self, encode: Encode, model: nn.Module, micro_batch: int, reseed: Callable[[int], None]) -> None:
        self._encode = encode
        self._model = model
        self._micro_batch = micro_batch
        self._reseed = reseed
        self._calls: list[_Call] = []
        self._num_parts = 0

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's; they are in the loss's graph, on the cached vectors."""
        return self._encode.heads

    def __call__(self, batch: Batch) -> Dual:
        """The vectors of all rows, as leaves that collect the loss's gradient."""
        first = self._num_parts
        duals: list[Dual] = []
        with torch.no_grad(), _same_buffers(self._model):
            for start, stop in _parts(len(batch), self._micro_batch):
                self._reseed(self._num_parts)
                duals.append(self._encode(batch.rows(start, stop)))
                self._num_parts += 1
        dual = _as_leaves(joined(duals))
        self._calls.append(_Call(batch, dual, first))
        return dual

    def backward(self) -> None:
        """Carries the gradient at the vectors on to the weights, one micro-batch at a time."""
        for call in self._calls:
            for number, (start, stop) in enumerate(_parts(len(call.batch), self._micro_batch)):
                self._reseed(call.first + number)
                again = self._encode(call.batch.rows(start, stop))
                pairs = [(again.image, _rows(call.dual.image.grad, start, stop))]
                pairs.append((again.text, _rows(call.dual.text.grad, start, stop)))
                if number == 0:
                    pairs.append((again.scale, call.dual.scale.grad))
                reached = [(at, grad) for at, grad in pairs if grad is not None and at.requires_grad]
                if reached:
                    torch.autograd.backward([at for at, _ in reached], [grad.to(at.dtype) for at, grad in reached])


def encode_in_parts(encode: Encode, batch: Batch, micro_batch: int | None) -> Dual:
    """What `encode` makes of `batch`, `micro_batch` rows at a time."""
    size = len(batch) if micro_batch is None else micro_batch
    return joined([encode(batch.rows(start, stop)) for start, stop in _parts(len(batch), size)])


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
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """Puts the buffers back: the first of two passes may not count in the statistics of batch norm."""
    kept = [buffer.clone() for buffer in model.buffers()]
    yield
    for buffer, value in zip(model.buffers(), kept, strict=True):
        buffer.copy_(value)


def _parts(num_rows: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)


def _rows(gradient: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if gradient is None else gradient[start:stop]


def _without_graph(loss: Loss) -> Loss:
    return Loss({name: replace(term, total=term.total.detach()) for name, term in loss.terms.items()})
