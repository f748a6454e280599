"""Steps over several tables: their shares are exact, each table keeps its own order, and nobody counts."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.mixed_order import MixedOrder, mixed_order
from diptych.data.sampler import Order, StepOrder
from diptych.data.token_batches import TokenOrder
from diptych.errors import UsageError


def order_of(num_rows: int, place: int, *, in_tokens: bool = False, rank: int = 0, world_size: int = 1) -> StepOrder:
    if in_tokens:
        lengths = np.random.default_rng(num_rows).integers(1, 9, num_rows)
        return TokenOrder(lengths=lengths, tokens=40, seed=place, rank=rank, world_size=world_size)
    return Order(num_rows=num_rows, batch=4, seed=place, rank=rank, world_size=world_size)


def order_over(tables: list[int], shares: list[int] | None, seed: int = 3, **settings) -> MixedOrder:
    return mixed_order([order_of(num, place, **settings) for place, num in enumerate(tables)], shares, seed)


tables = st.lists(st.integers(4, 40), min_size=1, max_size=4)


@st.composite
def mixtures(draw) -> tuple[list[int], list[int] | None]:
    found = draw(tables)
    return found, draw(st.none() | st.lists(st.integers(1, 5), min_size=len(found), max_size=len(found)))


def test_two_steps_of_one_table_for_each_of_the_other_by_hand():
    order = order_over([8, 12], [4, 2])  # which are in proportion as 2 and 1
    places = [order.turn(step)[0] for step in range(30)]
    assert all(sorted(places[start : start + 3]) == [0, 0, 1] for start in range(0, 30, 3))
    assert len({tuple(places[start : start + 3]) for start in range(0, 30, 3)}) > 1, "rounds differ"
    for step in range(30):
        inside = range(8) if places[step] == 0 else range(8, 20)
        assert all(row in inside for _, row in order.rows(step))
    assert (order.num_rows, order.batch_rows, order.steps_per_epoch) == (20, 4, 2 + 3)


@settings(max_examples=50)
@given(mixtures(), st.integers(0, 9), st.booleans())
def test_the_steps_of_one_table_are_those_of_its_own_order(mixture, seed, in_tokens):
    nums, shares = mixture
    order = order_over(nums, shares, seed, in_tokens=in_tokens)
    tables = [order_of(num, place, in_tokens=in_tokens) for place, num in enumerate(nums)]
    starts = np.cumsum([0, *nums])
    own = Counter()
    for step in range(12):
        place, turn = order.turn(step)
        assert turn == own[place]
        own[place] += 1
        alone = tables[place]
        assert order.rows(step) == [(epoch, starts[place] + row) for epoch, row in alone.rows(turn)]
        assert order.epoch(step) == alone.epoch(turn)


@settings(max_examples=50)
@given(mixtures(), st.integers(0, 9))
def test_every_round_has_the_shares_exactly(mixture, seed):
    order = order_over(*mixture, seed)
    steps = sum(order.shares)
    for number in range(3):
        places = Counter(order.turn(step)[0] for step in range(number * steps, (number + 1) * steps))
        assert [places[place] for place in range(len(order.shares))] == list(order.shares)


@settings(max_examples=50)
@given(tables)
def test_without_shares_an_epoch_has_the_steps_of_each_table_once(nums):
    order = order_over(nums, None)
    seen = Counter(row for step in range(order.steps_per_epoch) for _, row in order.rows(step))
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == sum(num // 4 * 4 for num in nums)


@settings(max_examples=50)
@given(mixtures(), st.integers(0, 60), st.integers(1, 3))
def test_a_step_is_the_same_whoever_asks_and_ranks_share_it(mixture, step, world_size):
    whole = order_over(*mixture).rows(step)
    ranks = [order_over(*mixture, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [(order.rank, order.world_size) for order in ranks] == [(rank, world_size) for rank in range(world_size)]
    assert list(chain.from_iterable(order.rows(step) for order in ranks)) == whole


def test_a_table_alone_keeps_its_order():
    alone = order_of(30, 0)
    for shares in (None, [1], [7]):
        order = order_over([30], shares)
        assert [order.rows(step) for step in range(20)] == [alone.rows(step) for step in range(20)]
        assert [order.epoch(step) for step in range(20)] == [alone.epoch(step) for step in range(20)]
        assert order.steps_per_epoch == alone.steps_per_epoch


@pytest.mark.parametrize("shares", [[1], [1, 2, 3], []])
def test_a_share_for_each_table_is_expected(shares):
    with pytest.raises(UsageError, match=r"tables to train on: 2; expected a share for each --data"):
        order_over([8, 12], shares)
