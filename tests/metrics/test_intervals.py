"""Intervals: against Wilson's formula solved another way, and what any interval must do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.metrics.intervals import wilson


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
