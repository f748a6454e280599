"""Batches by tokens: every row once an epoch, no batch above its budget, the same for any number of ranks."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.data.token_batches import TokenOrder, token_batches
from diptych.errors import UsageError


def test_short_rows_stand_together_in_larger_batches_by_hand():
    lengths = np.array([3, 9, 2, 3, 8, 2, 3])
    batches = [batch.tolist() for batch in token_batches(np.arange(7), lengths, budget=18, keep_last=True)]
    assert batches == [[1, 4], [0, 3, 6, 2, 5]]  # 2 of 9 tokens, then 5 of 3, which is all there are


def test_the_rest_of_a_bucket_is_dropped_where_it_is_not_wanted():
    lengths = np.full(10, 4)
    batches = [len(batch) for batch in token_batches(np.arange(10), lengths, budget=16, bucket=5)]
    assert batches == [4, 4]


def test_many_rows_come_in_multiples_of_eight():
    lengths = np.full(100, 3)
    batches = [len(batch) for batch in token_batches(np.arange(100), lengths, budget=100, keep_last=True)]
    assert batches == [32, 32, 32, 4]


lengths_of_rows = st.lists(st.integers(1, 30), min_size=1, max_size=80).map(np.array)


@given(lengths_of_rows, st.integers(30, 200), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_has_every_row_once_within_the_budget(lengths, tokens, seed, epoch):
    cut = TokenOrder(lengths=lengths, tokens=tokens, seed=seed)._batches(epoch)
    assert sorted(chain.from_iterable(batch.tolist() for batch in cut)) == list(range(len(lengths)))
    assert all(lengths[batch].max() * len(batch) <= tokens for batch in cut)


@given(lengths_of_rows, st.integers(60, 200), st.integers(1, 3), st.data())
def test_a_step_is_the_same_whoever_asks_and_ranks_share_it(lengths, tokens, world_size, data):
    alone = TokenOrder(lengths=lengths, tokens=tokens, seed=1)
    steps = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    if any(len(batch) < world_size for epoch in range(14) for batch in alone._batches(epoch)):
        return  # such batches are left out
    ranks = [
        TokenOrder(lengths=lengths, tokens=tokens, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in steps:
        shares = [order.rows(step) for order in ranks]
        assert sorted(chain.from_iterable(shares)) == sorted(alone.rows(step))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {epoch for epoch, _ in alone.rows(step)} == {alone.epoch(step)}


def test_epochs_are_cut_anew_and_a_jump_finds_the_same_step():
    lengths = np.random.default_rng(0).integers(5, 40, size=300)
    order = TokenOrder(lengths=lengths, tokens=400, seed=3)
    walked = [order.rows(step) for step in range(3 * order.steps_per_epoch)]
    jumped = TokenOrder(lengths=lengths, tokens=400, seed=3).rows(2 * order.steps_per_epoch + 1)
    assert jumped == walked[2 * order.steps_per_epoch + 1]
    first, second = ({row for _, row in walked[step]} for step in (0, order.steps_per_epoch))
    assert first != second


def test_a_row_that_fits_no_batch_is_told():
    with pytest.raises(UsageError, match="a row of 31 tokens does not fit into a batch of 30"):
        TokenOrder(lengths=np.array([3, 31]), tokens=30, seed=0).rows(0)
