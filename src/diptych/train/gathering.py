"""The vectors of all ranks beside one's own, with gradient: contrast over a batch that no process holds alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from diptych.data.batch import Batch
from diptych.objectives.objective import Dual, Encode
from diptych.ranks import Ranks


class GatheringEncode:
    """An `encode` whose Dual holds the rows of all ranks too, and says where the local ones begin among them."""

    def __init__(self, encode: Encode, ranks: Ranks) -> None:
        self._encode = encode
        self._ranks = ranks

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's."""
        return self._encode.heads

    def at_rest(self) -> AbstractContextManager[None]:
        """The model's."""
        return self._encode.at_rest()

    def __call__(self, batch: Batch) -> Any:
        """The encoding of `batch`; ranks may have batches of unequal size."""
        dual = self._encode(batch)
        if not isinstance(dual, Dual) or self._ranks.size == 1:
            return dual
        sizes = [rows for (rows,) in self._ranks.gathered([len(batch)])]
        return replace(
            dual,
            all_image=gather_rows(dual.image, sizes),
            all_text=gather_rows(dual.text, sizes),
            all_group=gather_rows(dual.group, sizes),
            offset=sum(sizes[: self._ranks.rank]),
        )


def gather_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all ranks, one rank below the other.

    Backward, each rank gets the sum of what all ranks' losses ask of its rows.

    Args:
        rows: (B, ...) of this rank.
        sizes: B of every rank.
    Returns:
        (N, ...) with N the sum of `sizes`.
    """
    return _Gather.apply(rows, tuple(sizes))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        padded = _padded(rows, max(sizes))
        given = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(given, padded)
        return torch.cat([one[:size] for one, size in zip(given, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        longest = max(ctx.sizes)
        parts = [_padded(part, longest) for part in grad.split(ctx.sizes)]
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter(mine, parts)
        return mine[: ctx.sizes[dist.get_rank()]], None


def _padded(rows: Tensor, num: int) -> Tensor:
    """`num` rows: exchanges want as many of each rank."""
    return torch.cat([rows, rows.new_zeros(num - len(rows), *rows.shape[1:])]).contiguous()
