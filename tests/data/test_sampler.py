"""The order is a bijection that only (seed, epoch) decides, and ranks only share it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.sampler import Order, permute, permute_many, scattered_rows, spread_rows
from diptych.errors import UsageError


@settings(deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    rows = permute_many(np.arange(size), size, seed=seed, epoch=epoch)
    assert sorted(rows.tolist()) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(1, 10**12), seed=st.integers(0, 9), data=st.data())
def test_one_position_is_the_same_as_among_many_also_in_large_tables(size: int, seed: int, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    many = permute_many(np.array(positions), size, seed=seed, epoch=1)
    assert [permute(position, size, seed=seed, epoch=1) for position in positions] == many.tolist()
    assert all(0 <= row < size for row in many)


def test_epochs_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return permute_many(np.arange(500), 500, seed=seed, epoch=epoch).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    for i, left in enumerate(orders):
        for right in orders[:i]:
            assert sum(a == b for a, b in zip(left, right, strict=True)) < 10  # by chance one


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_every_row_comes_to_every_place_equally_often(size: int) -> None:
    num = 1000
    counts = np.zeros((size, size))
    for epoch in range(num):
        counts[np.arange(size), permute_many(np.arange(size), size, seed=5, epoch=epoch)] += 1
    spread = np.sqrt(num / size * (1 - 1 / size))
    assert np.abs(counts - num / size).max() < 4.5 * spread


def test_neighbours_are_parted() -> None:
    rows = permute_many(np.arange(10_000), 10_000, seed=0, epoch=0)
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(10_000), rows)[0, 1]) < 0.05


def test_positions_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        permute(5, 5, seed=0, epoch=0)


@settings(deadline=None)
@given(num_rows=st.integers(1, 60), batch=st.integers(1, 70), step=st.integers(0, 50), data=st.data())
def test_the_slices_of_the_ranks_are_the_global_batch(
    num_rows: int, batch: int, step: int, data: st.DataObject
) -> None:
    world_size = data.draw(st.integers(1, min(batch, num_rows)))
    whole = Order(num_rows=num_rows, batch=batch, seed=7).rows(step)
    parts = [
        Order(num_rows=num_rows, batch=batch, seed=7, rank=rank, world_size=world_size).rows(step)
        for rank in range(world_size)
    ]
    assert [pair for part in parts for pair in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(deadline=None)
@given(num_rows=st.integers(1, 60), batch=st.integers(1, 70), epoch=st.integers(0, 5))
def test_no_row_comes_twice_in_an_epoch(num_rows: int, batch: int, epoch: int) -> None:
    order = Order(num_rows=num_rows, batch=batch, seed=7)
    first = epoch * order.steps_per_epoch
    seen = [pair for step in range(first, first + order.steps_per_epoch) for pair in order.rows(step)]
    assert {pair[0] for pair in seen} == {epoch} == {order.epoch(first)}
    assert len(set(seen)) == len(seen) > num_rows - batch


def test_a_small_table_gives_batches_of_all_its_rows() -> None:
    order = Order(num_rows=3, batch=256, seed=0)
    assert order.steps_per_epoch == 1
    assert sorted(row for _, row in order.rows(4)) == [0, 1, 2]


@pytest.mark.parametrize(
    "wrong", [{"num_rows": 0}, {"batch": 0}, {"rank": 2, "world_size": 2}, {"num_rows": 2, "world_size": 3}]
)
def test_orders_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Order(**({"num_rows": 9, "batch": 4, "seed": 0} | wrong))


@given(num_rows=st.integers(0, 3000), limit=st.none() | st.integers(1, 4000))
def test_spread_rows_are_evenly_spaced_and_ascend(num_rows: int, limit: int | None) -> None:
    rows = list(spread_rows(num_rows, limit))
    assert len(rows) == (num_rows if limit is None else min(limit, num_rows))
    assert all(0 <= row < num_rows for row in rows)
    gaps = set(np.diff(rows).tolist())
    assert min(gaps, default=1) >= 1 and max(gaps, default=1) - min(gaps, default=1) <= 1


def test_spread_rows_meet_every_class_of_a_table_in_the_order_of_its_classes() -> None:
    label = np.repeat(np.arange(10), 7)
    assert label[spread_rows(70, 20)].tolist() == np.repeat(np.arange(10), 2).tolist()


@given(num_rows=st.integers(0, 3000), limit=st.integers(1, 4000))
def test_scattered_rows_are_of_every_stretch(num_rows: int, limit: int) -> None:
    rows = np.array(scattered_rows(num_rows, limit))
    assert len(rows) == min(limit, num_rows) and len(set(rows.tolist())) == len(rows)
    assert (np.diff(rows) > 0).all()
    if limit < num_rows:
        assert (rows * limit // num_rows <= np.arange(limit)).all()
        assert ((rows + 1) * limit // num_rows >= np.arange(limit)).all()


@pytest.mark.parametrize("period", [2, 4, 5])
def test_kinds_of_rows_that_take_turns_are_all_met(period: int) -> None:
    met = np.bincount(np.array(scattered_rows(2000, 500)) % period, minlength=period)
    assert met.min() > 0.7 * 500 / period
