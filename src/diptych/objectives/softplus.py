"""The sum of one logistic loss for each entry of a similarity matrix, in tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.objectives.tiles import TILE, Gradient, Pairs, sum_dtype, tiles


def tiled_softplus(
    rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs, *, tile: int = TILE
) -> Tensor:
    """Sum of softplus(-z · logit) over `scale · rows @ columns.T + bias`, z = 1 for true pairs and -1 for others.

    That is -log sigmoid(z · logit). No entry waits for others, as in a softmax, so the one sweep that finds the sum
    finds its gradient too: 3 products of b x N x E, as many as the dense form takes. Memory beside the inputs is a
    tile, a strip of one and the gradients, which are held from the forward pass on. The backward pass, when tile and
    strip are gone, has them twice, before and after what arrives is multiplied in: 2 (b + N) E numbers. (They cannot be
    changed in place, as the graph may be gone through again.)

    Args:
        rows: (b, E) vectors of any float type; products and sums are float32 at least.
        columns: (N, E) likewise.
        scale: () what the products are multiplied by.
        bias: () what is added to them.
        pairs: which are true.
        tile: rows and columns of a tile; changes the result by rounding alone.
    Returns:
        (), differentiable.
    """
    total: Tensor = _TiledSoftplus.apply(rows, columns, scale, bias, pairs, tile, torch.is_grad_enabled())
    return total


class _TiledSoftplus(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        scale: Tensor,
        bias: Tensor,
        pairs: Pairs,
        size: int,
        learning: bool,
    ) -> Tensor:
        gradient = Gradient(rows, columns, scale) if learning else None
        total = rows.new_zeros((), dtype=sum_dtype(rows, columns))
        bias_grad = torch.zeros_like(total)
        for tile in tiles(rows, columns, scale, size, bias):
            for strip in tile.strips():
                pairs.negate(strip)  # -z · logit
                torch.ops.aten.softplus.out(strip.logits, out=strip.free)  # F.softplus, which takes no `out`
                total += strip.free.sum()
                if learning:
                    strip.logits.sigmoid_()
                    pairs.negate(strip)  # the -z of the chain rule
                    bias_grad += strip.logits.sum()
            if gradient is not None:
                gradient.add(tile)
        if gradient is not None:
            ctx.save_for_backward(*gradient.value(), bias_grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_grad: Tensor) -> tuple[Tensor | None, ...]:
        return *[total_grad * gradient for gradient in ctx.saved_tensors], None, None, None
