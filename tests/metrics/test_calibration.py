"""Calibration by hand, and its bounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ShapeError
from diptych.metrics.calibration import calibration_bins


def test_bins_by_hand():
    confidence = torch.tensor([0.1, 0.2, 0.6, 0.9, 1.0])
    right = torch.tensor([False, True, True, True, False])
    bins = calibration_bins(confidence, right, num_bins=2)
    assert bins.count.tolist() == [2, 3]
    assert bins.confidence.tolist() == pytest.approx([0.15, 2.5 / 3], abs=1e-6)
    assert bins.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert bins.error() == pytest.approx((2 * 0.35 + 3 * (2.5 / 3 - 2 / 3)) / 5, abs=1e-6)


def test_an_edge_belongs_to_the_lower_bin_and_zero_to_the_first():
    bins = calibration_bins(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([True, True, True]), num_bins=2)
    assert bins.count.tolist() == [2, 1]


def test_surely_wrong_is_an_error_of_one():
    assert calibration_bins(torch.ones(3), torch.zeros(3, dtype=torch.bool)).error() == 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30), st.integers(1, 20))
def test_every_answer_is_in_one_bin_and_the_error_is_a_share(answers, num_bins):
    confidence = torch.tensor([answer[0] for answer in answers], dtype=torch.float64)
    right = torch.tensor([answer[1] for answer in answers], dtype=torch.bool)
    bins = calibration_bins(confidence, right, num_bins)
    assert int(bins.count.sum()) == len(answers)
    assert 0 <= bins.error() <= 1


def test_logits_are_no_probabilities():
    with pytest.raises(ShapeError, match="outside"):
        calibration_bins(torch.tensor([1.5]), torch.tensor([True]))
    with pytest.raises(ShapeError, match="outside"):
        calibration_bins(torch.tensor([torch.nan]), torch.tensor([True]))
    with pytest.raises(ShapeError, match="expected equal"):
        calibration_bins(torch.tensor([0.5]), torch.tensor([True, False]))
