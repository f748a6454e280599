"""What a model costs a pair, found from shapes alone: nothing is computed, and weights take no memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from diptych.data.batch import Batch, TextPart
from diptych.nn.stacks import stacks
from diptych.objectives.objective import Dual
from diptych.train.live_bytes import LiveBytes, tensors_of

BlankBatch = Callable[[int, int], Batch]
"""Rows and tokens of a text -> a Batch of these sizes with nothing in it, on torch's default device."""
ROWS = (256, 512)
"""Two batches whose difference is the memory of a pair: large, so that what grows with the batch decides the peak."""


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """A model's sizes, and what one more pair of a batch adds."""

    parameters: int
    flops: int
    """A pair, forward and backward: products only, recomputation not counted."""
    activation_bytes: int
    """A pair, at the highest point of forward and backward."""
    constant_bytes: int
    """Beside these, at most, whatever the batch: a weight's gradient on its way, weights cast to half precision."""
    batch_bytes: int
    """A pair, as it comes from the loader."""
    vector_width: int
    """Numbers of a pair's vectors, 2 E of two towers; 0 of models that make none."""
    largest_block: int
    """Parameters of the largest layer of a stack, which FSDP2 gathers as one."""
    root: int
    """Parameters outside of all stacks, gathered for the whole of a pass."""


def model_cost(
    model: nn.Module, blank: BlankBatch, *, num_tokens: int, autocast: torch.dtype | None, recompute: bool
) -> ModelCost:
    """The cost of a room's model.

    Args:
        model: on any device, the meta device among them.
        blank: makes the batches that it reads.
        num_tokens: of the longest text of a batch.
        autocast: what its products are computed in; None: float32.
        recompute: with activation checkpointing.
    """
    with torch.device("meta"):
        flops = count_flops(hollow(model, "meta").eval(), blank(1, num_tokens))
    one, few, many = (_peak_bytes(model, blank, rows, num_tokens, autocast, recompute) for rows in (1, *ROWS))
    activations = (many.bytes - few.bytes) // (ROWS[1] - ROWS[0])
    blocks = [_size(block) for stack in stacks(model) for block in stack]
    return ModelCost(
        parameters=_size(model),
        flops=flops,
        activation_bytes=activations,
        # The highest point is the largest of several that grow with the batch, each along a line of its own. Above the
        # steepest of these lines they are nowhere further than at one row.
        constant_bytes=max(one.bytes - activations, 0),
        batch_bytes=one.batch_bytes,
        vector_width=one.vector_width,
        largest_block=max(blocks, default=0),
        root=_size(model) - sum(blocks),
    )


def count_flops(model: nn.Module, batch: Batch) -> int:
    """Operations of all products in forward and backward pass, two for a multiplication with its addition.

    Attention counts with its forward products and their four backward ones. Norms, activations and the loss are left
    out: together they are less than 2 % of the models of the paper.

    Args:
        model: on the meta device, from `hollow`.
        batch: on the meta device.
    """
    with FlopCounterMode(display=False) as counter:
        _go_back(model(batch))
    return int(counter.get_total_flops())


def hollow(model: nn.Module, device: str) -> nn.Module:
    """A copy whose parameters and buffers have shapes and no values.

    On "meta", or on any device inside a `FakeTensorMode`, it takes no memory however large the model is.
    """
    empty: dict[int, Any] = {}
    for parameter in model.parameters():
        values = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        empty[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        empty[id(buffer)] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
    return copy.deepcopy(model, empty)


class PairFlops:
    """Operations a pair of any batch of a model, forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        self._model = hollow(model, "meta").eval()
        self._by_length: tuple[int, int, int] | None = None

    def __call__(self, batch: Batch) -> int:
        """Those of a pair whose text is padded as in `batch`.

        They are a polynomial of second degree in the length, attention's share being its square, and so known of all
        lengths once they are of three.
        """
        pair = batch.rows(0, 1).to("meta")
        if pair.text is None or batch.text is None:
            return count_flops(self._model, pair)
        if self._by_length is None:
            first, second, third = (count_flops(self._model, _with_text(pair, length)) for length in (1, 2, 3))
            self._by_length = first, second, third
        first, second, third = self._by_length
        more = batch.text.ids.shape[1] - 1
        return first + more * (second - first) + more * (more - 1) // 2 * (third - 2 * second + first)


def _with_text(batch: Batch, length: int) -> Batch:
    ids = torch.empty(len(batch), length, dtype=torch.int64, device="meta")
    return replace(batch, text=TextPart(ids=ids, mask=ids.bool()))


@dataclass(frozen=True, kw_only=True)
class _Peak:
    bytes: int
    batch_bytes: int
    vector_width: int


def _peak_bytes(
    model: nn.Module, blank: BlankBatch, rows: int, num_tokens: int, autocast: torch.dtype | None, recompute: bool
) -> _Peak:
    """The most that is alive at once in forward and backward, weights, their gradients and the batch left out.

    Fake tensors rather than meta ones: they know autocast and the attention kernel that keeps no L x L matrix. And all
    storages rather than those saved for backward, which leave out what checkpointing computes again.
    """
    with FakeTensorMode():
        copied = hollow(model, "cpu").train()
        if recompute:
            copied.activation_checkpointing = True  # type: ignore[assignment]
        for parameter in copied.parameters():
            parameter.register_post_accumulate_grad_hook(_drop_gradient)
        batch = blank(rows, num_tokens)
        given = [*copied.parameters(), *copied.buffers(), *tensors_of(batch)]
        with LiveBytes(given) as alive:
            with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                encoding = copied(batch)
            _go_back(encoding)
    width = encoding.image.shape[1] + encoding.text.shape[1] if isinstance(encoding, Dual) else 0
    return _Peak(bytes=alive.peak, batch_bytes=sum(one.nbytes for one in tensors_of(batch)), vector_width=width)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _go_back(encoding: Any) -> None:
    """Backward from everything that an encoding holds, as from a loss that reads all of it."""
    reached = [one for one in vars(encoding).values() if isinstance(one, Tensor) and one.requires_grad]
    torch.autograd.backward(reached, [torch.ones_like(one) for one in reached])


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
