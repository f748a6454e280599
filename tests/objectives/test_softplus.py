"""Tiles change nothing: value and gradients of the dense form, whatever the tile, the true pairs and the scale."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.objectives.softplus import tiled_softplus
from diptych.objectives.tiles import Pairs
from diptych.train.live_bytes import LiveBytes


def vectors(num: int, width: int, seed: int) -> Tensor:
    drawn = torch.randn(num, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=-1).requires_grad_()


def dense(rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return -F.logsigmoid(labels * (scale * rows @ columns.mT + bias)).sum()


@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(1, 7),
    extra=st.integers(0, 5),
    tile=st.sampled_from([1, 2, 3, 5, 9, 17, 24, 40]),  # strips of a row, and of several
    offset=st.integers(0, 5),
    scale=st.sampled_from([1.0, 10.0, 117.0]),
    bias=st.sampled_from([-10.0, 0.0, 3.0]),
    grouped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_dense_form(
    num_rows: int, extra: int, tile: int, offset: int, scale: float, bias: float, grouped: bool, seed: int
) -> None:
    num_columns = num_rows + offset + extra
    rows, columns = vectors(num_rows, 6, seed), vectors(num_columns, 6, seed + 1)
    at, over = torch.tensor(scale, requires_grad=True), torch.tensor(bias, requires_grad=True)
    column_group = torch.arange(num_columns) % 3 if grouped else torch.arange(num_columns)
    row_group = column_group[offset : offset + num_rows]
    labels = torch.where(row_group[:, None] == column_group[None, :], 1.0, -1.0)
    pairs = Pairs(offset=offset, **({"row_group": row_group, "column_group": column_group} if grouped else {}))
    ours = tiled_softplus(rows, columns, at, over, pairs, tile=tile)
    theirs = dense(rows, columns, at, over, labels)
    assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    given_to = (rows, columns, at, over)
    for mine, right in zip(
        torch.autograd.grad(3 * ours, given_to), torch.autograd.grad(3 * theirs, given_to), strict=True
    ):
        assert_close(mine, right, atol=5e-5 * scale, rtol=1e-4)


def test_the_gradient_is_what_finite_differences_say() -> None:
    rows, columns = (vectors(num, 3, num).detach().double().requires_grad_() for num in (3, 5))
    scale, bias = (torch.tensor(at, dtype=torch.float64, requires_grad=True) for at in (2.0, -1.0))
    for pairs in (
        Pairs(offset=2),
        Pairs(row_group=torch.tensor([7, 8, 7]), column_group=torch.tensor([9, 7, 8, 7, 8]), offset=1),
    ):
        given_to = (rows, columns, scale, bias)
        torch.autograd.gradcheck(lambda *given, pairs=pairs: tiled_softplus(*given, pairs, tile=2), given_to)


def test_a_pair_that_is_surely_right_costs_what_float32_can_tell_from_nothing() -> None:
    """Summed as softplus(logit) - logit, 30 minus 30 would be left."""
    one, scale, bias = torch.ones(1, 1), torch.tensor(30.0), torch.tensor(0.0)
    assert_close(tiled_softplus(one, one, scale, bias, Pairs()), torch.tensor(-30.0).exp(), atol=0, rtol=1e-5)


def test_without_a_graph_no_gradient_is_made() -> None:
    rows, scale, bias = vectors(4, 3, 0), torch.tensor(5.0), torch.tensor(-1.0, requires_grad=True)
    with torch.no_grad():
        found = tiled_softplus(rows, rows, scale, bias, Pairs(), tile=2)
    assert not found.requires_grad
    assert_close(found, tiled_softplus(rows, rows, scale, bias, Pairs(), tile=2).detach())


def test_a_graph_may_be_gone_through_twice() -> None:
    rows = vectors(4, 3, 0)
    found = tiled_softplus(rows, rows.detach(), torch.tensor(5.0), torch.tensor(-1.0), Pairs(), tile=2)
    (first,), (again,) = (torch.autograd.grad(found, rows, retain_graph=True) for _ in range(2))
    assert torch.equal(first, again)


def test_memory_is_a_tile_a_strip_and_the_gradients_and_these_twice_when_the_tile_is_gone() -> None:
    scale, bias = torch.tensor(5.0), torch.tensor(-1.0)
    numbers = 1000  # bytes of all that is a number or a few
    rows, columns = vectors(64, 1, 0), vectors(64, 1, 1)
    with LiveBytes([rows, columns, scale, bias]) as live:
        tiled_softplus(rows, columns, scale, bias, Pairs(), tile=64)
    assert live.peak <= 4 * (64 * 64 + 32 * 64 + 3 * 64) + numbers  # the rows times the scale are there too
    rows, columns = vectors(64, 900, 0), vectors(64, 900, 1)
    with LiveBytes([rows, columns, scale, bias]) as live:
        tiled_softplus(rows, columns, scale, bias, Pairs(), tile=8).backward()
    assert 0 <= live.peak - 4 * 2 * (64 + 64) * 900 <= numbers
