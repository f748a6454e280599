"""Intervals: against Wilson's formula solved another way, and what any interval must do."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.metrics.intervals import bootstrap, wilson


@given(st.integers(1, 500), st.data())
def test_wilson_ends_lie_z_standard_errors_from_the_share(num, data):
    hits = data.draw(st.integers(0, num))
    low, high = wilson(hits, num)
    assert 0 <= low <= hits / num <= high <= 1
    for end in (low, high):  # the definition: |share - end| = z * sqrt(end (1 - end) / num)
        assert abs(hits / num - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / num), abs=1e-6)


def test_wilson_of_none_right_reaches_above_zero():
    low, high = wilson(0, 10)
    assert low == 0
    assert high == pytest.approx(1.959964**2 / (10 + 1.959964**2), abs=1e-6)


def test_wilson_of_nothing_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_of_more_hits_than_rows_is_a_bug_of_ours():
    with pytest.raises(ValueError, match="3 hits of 2"):
        wilson(3, 2)


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    low, high = bootstrap(values, rng=np.random.default_rng(1))
    reach = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.05)


def test_bootstrap_of_equal_values_has_no_width():
    assert bootstrap([0.5] * 7, rng=np.random.default_rng(0), num_draws=20) == (0.5, 0.5)


def test_bootstrap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap([], rng=np.random.default_rng(0))
