"""Accuracy, by hand and by what must hold between the measures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.errors import ShapeError
from diptych.metrics.accuracy import (
    accuracy_by_class,
    confusion_matrix,
    mean_per_class,
    predictions,
    ranks_of_labels,
)


def test_ranks_by_hand():
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])
    labels = torch.tensor([0, 1, 0, 1])
    assert ranks_of_labels(scores, labels).tolist() == [0, 1, 2, 0]  # the third ties with a wrong one


def test_equal_scores_and_nan_are_wrong():
    for scores in (torch.zeros(3, 4), torch.full((3, 4), torch.nan)):
        assert ranks_of_labels(scores, torch.tensor([0, 1, 2])).tolist() == [3, 3, 3]
        assert not (predictions(scores, torch.tensor([0, 1, 2])) == torch.tensor([0, 1, 2])).any()


def test_mean_per_class_weighs_classes_not_rows():
    labels = torch.tensor([0, 0, 0, 0, 1, 3])
    right = torch.tensor([True, True, True, True, False, True])
    assert_close(accuracy_by_class(right, labels, 4), torch.tensor([1.0, 0.0, torch.nan, 1.0]).double(), equal_nan=True)
    assert mean_per_class(right, labels, 4) == pytest.approx(2 / 3)


def test_confusion_by_hand():
    predicted, labels = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1])
    assert confusion_matrix(predicted, labels, 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(1, 20), st.integers(0, 99))
def test_the_diagonal_is_what_was_right(num_classes, num_rows, seed):
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_rows, num_classes, generator=rng).round()  # some ties
    labels = torch.randint(num_classes, (num_rows,), generator=rng)
    predicted = predictions(scores, labels)
    assert_close(scores.gather(1, predicted[:, None])[:, 0], scores.amax(dim=1))
    confusion = confusion_matrix(predicted, labels, num_classes)
    assert int(confusion.sum()) == num_rows
    assert int(confusion.trace()) == int((ranks_of_labels(scores, labels) == 0).sum())
    assert_close(confusion.sum(dim=1), torch.bincount(labels, minlength=num_classes))


def test_a_label_outside_the_classes_is_told():
    with pytest.raises(ShapeError, match="expected 0 to 2"):
        ranks_of_labels(torch.ones(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ShapeError, match=r"expected \(N, C\)"):
        ranks_of_labels(torch.ones(2, 3), torch.tensor([0]))
