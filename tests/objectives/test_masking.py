"""Masks: how often, and what becomes of a masked piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.data.sample import random_for
from diptych.objectives.masking import mask_regions, mask_words

MASK = 4
REPLACEMENTS = (5, 90)


@given(st.lists(st.integers(REPLACEMENTS[0], REPLACEMENTS[1] - 1), max_size=12), st.integers(0, 99))
def test_what_is_not_chosen_stays_and_something_always_is(ids, seed):
    masked, chosen = mask_words(ids, random_for(seed, 0, "a"), mask_id=MASK, replacements=REPLACEMENTS)
    assert bool(chosen) == bool(ids)
    assert [one for at, one in enumerate(masked) if at not in chosen] == [
        one for at, one in enumerate(ids) if at not in chosen
    ]
    assert all(masked[at] == MASK or REPLACEMENTS[0] <= masked[at] < REPLACEMENTS[1] for at in chosen)


def test_one_draw_in_seven_masks_and_eight_in_ten_of_these_become_the_mask():
    ids = [REPLACEMENTS[0]] * 40_000
    masked, chosen = mask_words(ids, random_for(0, 0, "many"), mask_id=MASK, replacements=REPLACEMENTS)
    of_chosen = np.array([masked[at] for at in chosen])
    assert len(chosen) / len(ids) == pytest.approx(0.15, abs=0.006)  # 3.4 standard errors
    assert (of_chosen == MASK).mean() == pytest.approx(0.8, abs=0.018)
    others = (of_chosen != MASK) & (of_chosen != ids[0])
    assert others.mean() == pytest.approx(0.1 * 84 / 85, abs=0.014)


@given(st.integers(1, 12), st.integers(0, 99))
def test_a_region_at_least_is_masked_and_each_once(num, seed):
    chosen = mask_regions(num, random_for(seed, 0, "a"))
    assert chosen and chosen == sorted(set(chosen)) and chosen[-1] < num


def test_a_lone_mask_falls_on_any_region():
    firsts = [mask_regions(4, random_for(seed, 0, "a"), probability=0.0) for seed in range(400)]
    assert {tuple(one) for one in firsts} == {(0,), (1,), (2,), (3,)}
