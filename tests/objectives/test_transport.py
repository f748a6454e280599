"""Transport plans: by hand, and what must hold for any vectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.objectives.transport import _solve, cosine_cost, transport_distance, transport_plan


def ragged(lengths: list[tuple[int, int]], width: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    most_words, most_regions = (max(side) for side in zip(*lengths, strict=True))
    words = torch.randn(len(lengths), most_words, width, generator=generator)
    regions = torch.randn(len(lengths), most_regions, width, generator=generator)
    word_mask = torch.arange(most_words) < torch.tensor([m for m, _ in lengths])[:, None]
    region_mask = torch.arange(most_regions) < torch.tensor([n for _, n in lengths])[:, None]
    return words, regions, word_mask, region_mask


def test_each_word_goes_to_the_region_that_is_like_it():
    words = torch.eye(3)[None]
    regions = torch.eye(3)[None, [2, 0, 1]]
    everything = torch.ones(1, 3, dtype=torch.bool)
    cost = cosine_cost(words, regions, everything, everything)
    plan = transport_plan(cost, everything, everything)
    assert_close(plan, torch.eye(3)[None, :, [2, 0, 1]] / 3, atol=1e-6, rtol=0)
    assert_close(transport_distance(words, regions, everything, everything), torch.zeros(1), atol=1e-6, rtol=0)


def test_one_word_is_spread_over_regions_that_cost_the_same():
    one, two = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    plan = transport_plan(torch.full((1, 1, 2), 0.7), one, two)
    assert_close(plan, torch.full((1, 1, 2), 0.5))


sizes = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4)


@given(sizes, st.integers(0, 99))
def test_padding_changes_nothing_and_every_word_carries_as_much(lengths, seed):
    words, regions, word_mask, region_mask = ragged(lengths, 7, seed)
    cost = cosine_cost(words, regions, word_mask, region_mask)
    plan = transport_plan(cost, word_mask, region_mask)
    for row, (m, n) in enumerate(lengths):
        alone = torch.ones(1, m, dtype=torch.bool), torch.ones(1, n, dtype=torch.bool)
        assert_close(plan[row : row + 1, :m, :n], transport_plan(cost[row : row + 1, :m, :n], *alone))
        assert_close(plan[row].sum(dim=1)[:m], torch.full((m,), 1 / m))
    outside = ~(word_mask[:, :, None] & region_mask[:, None])
    assert not plan[outside].any() and not cost[outside].any()


@given(sizes, st.integers(0, 99))
def test_what_stands_at_padding_is_not_read_and_gets_no_gradient(lengths, seed):
    words, regions, *masks = ragged(lengths, 7, seed)
    other_words = words.masked_fill(~masks[0][:, :, None], 9.0).requires_grad_()
    distance = transport_distance(other_words, regions, *masks)
    assert_close(distance, transport_distance(words, regions, *masks))
    distance.sum().backward()
    assert not other_words.grad[~masks[0]].any()


def test_the_gradient_is_that_of_the_cost_under_a_fixed_plan():
    words, regions, *masks = ragged([(3, 4), (2, 3)], 5, seed=1)
    words.requires_grad_()
    transport_distance(words, regions, *masks).sum().backward()
    cost = cosine_cost(words, regions, *masks)
    plan = transport_plan(cost, *masks)
    (expected,) = torch.autograd.grad((cost * plan).sum(), words)
    assert_close(words.grad, expected)


def test_it_is_computed_in_float32_under_autocast():
    words, regions, *masks = ragged([(3, 4)], 16, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = transport_distance(words, regions, *masks)
    assert found.dtype == torch.float32
    assert_close(found, transport_distance(words, regions, *masks), atol=1e-7, rtol=0)


@pytest.mark.slow
def test_the_fused_steps_that_a_gpu_takes_are_the_same():
    words, regions, *masks = ragged([(4, 3), (2, 5)], 6, seed=3)
    cost = cosine_cost(words, regions, *masks)
    fused = torch.compile(_solve, dynamic=True)
    assert_close(fused(cost, *masks, 0.5, 50), _solve(cost, *masks, 0.5, 50), atol=1e-6, rtol=1e-4)
