"""Accuracy of choosing one of several classes: rank of the right one, mean per class, confusion."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.errors import ShapeError


def ranks_of_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """The rank of the right class in each row, from 0: how many wrong ones score as high or higher.

    A tie counts against the model, and NaN counts as the lowest, as in `metrics.recall`.

    Args:
        scores: (N, C) any float type.
        labels: (N,) int64 in [0, C).
    Returns:
        (N,) int64.
    Raises:
        ShapeError: labels disagree with scores in N, or lie outside [0, C).
    """
    scores, right = _checked(scores, labels)
    return (scores >= right).sum(dim=1) - 1  # the right class ties with itself


def predictions(scores: Tensor, labels: Tensor) -> Tensor:
    """The class of the highest score in each row; of equal ones a wrong one, so that it agrees with the rank.

    Args:
        scores: (N, C) any float type, C at least 2.
        labels: (N,) int64 in [0, C).
    Returns:
        (N,) int64.
    """
    scores, right = _checked(scores, labels)
    beats = (scores >= right).scatter(1, labels[:, None], False)  # (N, C)
    best_wrong = scores.masked_fill(~beats, -torch.inf).argmax(dim=1)
    return torch.where(beats.any(dim=1), best_wrong, labels)


def accuracy_by_class(right: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The share that is right within each class.

    Args:
        right: (N,) bool.
        labels: (N,) int64 in [0, C).
        num_classes: C.
    Returns:
        (C,) float64, NaN for a class without rows.
    """
    rows = torch.bincount(labels, minlength=num_classes)
    hits = torch.bincount(labels[right], minlength=num_classes)
    return hits.double() / rows


def mean_per_class(right: Tensor, labels: Tensor, num_classes: int) -> float:
    """The mean of the classes' accuracies, each class weighing the same; classes without rows are left out.

    Args:
        right: (N,) bool.
        labels: (N,) int64 in [0, C).
        num_classes: C.
    """
    return float(accuracy_by_class(right, labels, num_classes).nanmean()) if len(labels) else 0.0


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How often each class was taken for each.

    Args:
        predicted: (N,) int64 in [0, C).
        labels: (N,) int64 in [0, C).
        num_classes: C.
    Returns:
        (C, C) int64, true class by row, predicted class by column.
    """
    cells = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def _checked(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) finite scores, NaN the lowest, and (N, 1) those of the right classes."""
    if scores.dim() != 2 or labels.shape != scores.shape[:1]:
        raise ShapeError(f"scores are {tuple(scores.shape)} and labels {tuple(labels.shape)}; expected (N, C) and (N,)")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise ShapeError(f"labels go from {labels.min()} to {labels.max()}; expected 0 to {scores.shape[1] - 1}")
    lowest = torch.finfo(scores.dtype).min
    scores = scores.nan_to_num(nan=lowest, neginf=lowest)
    return scores, scores.gather(1, labels[:, None])
