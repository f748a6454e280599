"""Tiles change nothing: values and gradients of the dense form, whatever the tile, the mask and the scale."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.objectives.logsumexp import tiled_logsumexp
from diptych.objectives.tiles import Pairs


def vectors(num: int, width: int, seed: int) -> Tensor:
    drawn = torch.randn(num, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=-1).requires_grad_()


def dense(
    rows: Tensor, columns: Tensor, scale: Tensor, twins: Tensor | None, offset: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    logits = scale * rows @ columns.mT
    own = logits.diagonal(offset)
    if twins is not None:
        logits = logits.masked_fill(twins, -1e4)  # far below any cosine, and no NaN in its gradient
    return logits.logsumexp(1), logits.logsumexp(0), own


@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(1, 7),
    extra=st.integers(0, 5),
    tile=st.sampled_from([1, 2, 3, 5, 9, 17, 24, 40]),  # strips of a row, and of several
    offset=st.integers(0, 5),
    scale=st.sampled_from([1.0, 14.3, 100.0]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_dense_form(
    num_rows: int, extra: int, tile: int, offset: int, scale: float, masked: bool, seed: int
) -> None:
    num_columns = num_rows + offset + extra
    rows, columns = vectors(num_rows, 6, seed), vectors(num_columns, 6, seed + 1)
    at = torch.tensor(scale, requires_grad=True)
    column_group = torch.arange(num_columns) % 3 if masked else None
    row_group = None if column_group is None else column_group[offset : offset + num_rows]
    twins = None
    if row_group is not None and column_group is not None:
        twins = row_group[:, None] == column_group[None, :]
        twins[torch.arange(num_rows), offset + torch.arange(num_rows)] = False
    pairs = Pairs(row_group=row_group, column_group=column_group, offset=offset)
    ours = tiled_logsumexp(rows, columns, at, pairs, tile=tile)
    theirs = dense(rows, columns, at, twins, offset)
    finite = ours[1].isfinite()  # a column all of whose rows are its twins has nothing to sum
    assert_close(ours[0], theirs[0])
    assert_close(ours[1][finite], theirs[1][finite])
    assert_close(ours[2], theirs[2])
    weights = [
        torch.linspace(first, 3.0, num) for first, num in ((0.5, num_rows), (1.0, num_columns), (-2.0, num_rows))
    ]
    mine, right = (
        torch.autograd.grad(
            (weights[0] * a).sum() + (weights[1] * b)[finite].sum() + (weights[2] * own).sum(), (rows, columns, at)
        )
        for a, b, own in (ours, theirs)
    )
    for ours_grad, right_grad in zip(mine, right, strict=True):
        # Either form rounds logits, which reach the scale, at the seventh digit; gradients are the scale times that.
        assert_close(ours_grad, right_grad, atol=2e-5 * scale, rtol=1e-4)


def test_one_direction_alone_can_be_asked_for() -> None:
    rows, columns, scale = vectors(3, 4, 0), vectors(5, 4, 1), torch.tensor(10.0, requires_grad=True)
    by_row, _, _ = tiled_logsumexp(rows, columns, scale, Pairs(), tile=2)
    right, _, _ = dense(rows, columns, scale, None)
    for mine, theirs in zip(
        torch.autograd.grad(by_row.sum(), (rows, columns, scale)),
        torch.autograd.grad(right.sum(), (rows, columns, scale)),
        strict=True,
    ):
        assert_close(mine, theirs)


def test_the_gradient_is_what_finite_differences_say() -> None:
    rows, columns = (vectors(num, 3, num).detach().double().requires_grad_() for num in (3, 5))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    pairs = Pairs(row_group=torch.tensor([7, 8, 7]), column_group=torch.tensor([9, 7, 8, 7, 8]), offset=1)
    torch.autograd.gradcheck(lambda *given: tiled_logsumexp(*given, pairs, tile=2), (rows, columns, scale))


def test_products_and_sums_of_half_precision_are_float32() -> None:
    rows, columns = vectors(6, 16, 0).detach().bfloat16(), vectors(9, 16, 1).detach().half()
    found = tiled_logsumexp(rows, columns, torch.tensor(50.0), Pairs(), tile=4)
    assert_close(found, dense(rows.float(), columns.float(), torch.tensor(50.0), None))
