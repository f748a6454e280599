"""Log-sum-exp over the rows and the columns of a similarity matrix, in tiles."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.objectives.tiles import TILE, Gradient, Pairs, Tile, sum_dtype, tiles


def tiled_logsumexp(
    rows: Tensor, columns: Tensor, scale: Tensor, pairs: Pairs, *, tile: int = TILE
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp of `scale · rows @ columns.T` along both of its directions, and own pairs, from one sweep over tiles.

    Exact: each row and column keeps a running maximum. Forward and backward take 4 products of b x N x E together,
    against 6 of the dense form, and memory beside the inputs and their gradients is a tile, a strip of one and
    2 (b + N) numbers.

    Args:
        rows: (b, E) vectors of any float type; products and sums are float32 at least.
        columns: (N, E) likewise.
        scale: () what the products are multiplied by.
        pairs: true pairs are left out, except each row's own.
        tile: rows and columns of a tile; changes the result by rounding alone.
    Returns:
        (b,) over each row's columns, (N,) over each column's rows, and (b,) the logit of each row's own pair; all
        differentiable.
    """
    # In base 2, as a power of 2 takes half the time of a power of e: (x / ln 2) first, ln 2 times the logarithm after.
    by_row, by_column, own = _TiledLogSumExp2.apply(rows, columns, scale / math.log(2), pairs, tile)
    return math.log(2) * by_row, math.log(2) * by_column, math.log(2) * own


class _TiledLogSumExp2(torch.autograd.Function):
    """log2 Σ 2^logit, whose derivative is 2^logit / Σ, without a factor."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, pairs: Pairs, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        by_row, by_column = (_RunningLogSumExp2(one, sum_dtype(rows, columns)) for one in (rows, columns))
        own = rows.new_zeros(len(rows), dtype=sum_dtype(rows, columns))
        for tile in tiles(rows, columns, scale, size):
            for strip in tile.strips():
                pairs.leave_out_twins(strip)
                own[pairs.rows_of_own(strip)] = pairs.own(strip, strip.logits)
                by_row.add(strip.row, strip, dim=1)
                by_column.add(strip.column, strip, dim=0)
        ctx.save_for_backward(rows, columns, scale, by_row.value(), by_column.value())
        ctx.pairs, ctx.size = pairs, size
        ctx.set_materialize_grads(False)  # one direction alone may be asked for
        return by_row.value(), by_column.value(), own

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, by_row_grad: Tensor | None, by_column_grad: Tensor | None, own_grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        rows, columns, scale, by_row, by_column = ctx.saved_tensors
        by_column = by_column.nan_to_num(neginf=0.0)  # a column that is left out whole has no softmax
        gradient = Gradient(rows, columns, scale)
        for tile in tiles(rows, columns, scale, ctx.size):
            for strip in tile.strips():
                ctx.pairs.leave_out_twins(strip)
                # The softmax along rows and along columns, each times what arrives at its log-sum-exp.
                at_logits, along_columns = strip.logits, strip.free
                if by_column_grad is not None:
                    torch.sub(strip.logits, by_column[None, strip.column], out=along_columns).exp2_()
                if by_row_grad is None:
                    at_logits.zero_()
                else:
                    at_logits.sub_(by_row[strip.row, None]).exp2_().mul_(by_row_grad[strip.row, None])
                if by_column_grad is not None:
                    at_logits.addcmul_(along_columns, by_column_grad[None, strip.column])
                if own_grad is not None:
                    ctx.pairs.own(strip, at_logits).add_(own_grad[ctx.pairs.rows_of_own(strip)])
            gradient.add(tile)
        return *gradient.value(), None, None


class _RunningLogSumExp2:
    """log2 Σ 2^logit, for each vector, of logits that arrive in parts."""

    def __init__(self, vectors: Tensor, dtype: torch.dtype) -> None:
        self._largest = vectors.new_full((len(vectors),), -torch.inf, dtype=dtype)
        self._sum = torch.zeros_like(self._largest)

    def add(self, where: slice, tile: Tile, dim: int) -> None:
        largest = torch.maximum(self._largest[where], tile.logits.amax(dim))
        shift = largest.masked_fill(largest == -torch.inf, 0.0)  # nothing but masked entries so far
        self._sum[where] *= (self._largest[where] - shift).exp2_()
        self._sum[where] += torch.sub(tile.logits, shift.unsqueeze(dim), out=tile.free).exp2_().sum(dim)
        self._largest[where] = largest

    def value(self) -> Tensor:
        return self._largest + self._sum.log2()
