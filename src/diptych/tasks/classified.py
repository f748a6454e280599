"""Classified: what the pictures of a split were taken for, however the classes were scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.data.rejects import Reject
from diptych.errors import DataError
from diptych.metrics.accuracy import confusion_matrix, mean_per_class, predictions, ranks_of_labels
from diptych.metrics.calibration import calibration_bins
from diptych.metrics.intervals import wilson
from diptych.metrics.recall import recall_at_k


@dataclass(frozen=True, kw_only=True)
class Classified:
    """N pictures, C classes."""

    split: str
    rows: tuple[int, ...]
    """(N) rows of the split."""
    keys: tuple[str, ...]
    class_names: tuple[str, ...]
    """(C) the first name of each."""
    labels: Tensor
    """(N,) int64."""
    ranks: Tensor
    """(N,) rank of the right class, from 0; ties count against the model."""
    predicted: Tensor
    """(N,) class that was taken; of equal ones a wrong one."""
    confidence: Tensor
    """(N,) probability that the model gave the class it took."""
    rejects: tuple[Reject, ...] = ()

    @property
    def right(self) -> Tensor:
        """(N,) bool."""
        return self.ranks == 0

    def numbers(self) -> dict[str, float]:
        """Shares of 1: top-1 with its interval, top-5, mean per class, chance, and the calibration error."""
        low, high = wilson(int(self.right.sum()), len(self.labels))
        return {
            "top1": recall_at_k(self.ranks, 1),
            "top1_low": low,
            "top1_high": high,
            "top5": recall_at_k(self.ranks, 5),
            "mean_per_class": mean_per_class(self.right, self.labels, len(self.class_names)),
            "chance": 1 / len(self.class_names),
            "calibration_error": calibration_bins(self.confidence, self.right).error(),
            "num": len(self.labels),
        }

    def confusion(self) -> Tensor:
        """(C, C) int64, true class by row, class taken by column."""
        return confusion_matrix(self.predicted, self.labels, len(self.class_names))


def classify(tiles: Iterator[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is taken by the highest logit, a tile of pictures at a time.

    Args:
        tiles: (n, C) logits, whose softmax is the model's probability; the n add up to N.
        labels: (N,) int64.
    Returns:
        Ranks of the right classes, classes taken, and the probability of each; (N,) all.
    """
    parts, start = [], 0
    for logits in tiles:
        mine = labels[start : start + len(logits)]
        predicted = predictions(logits, mine)
        certain = logits.nan_to_num(nan=-torch.inf).softmax(dim=1).gather(1, predicted[:, None])[:, 0]
        parts.append((ranks_of_labels(logits, mine), predicted, certain.nan_to_num(nan=0.0)))
        start += len(logits)
    ranks, predicted, confidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return ranks, predicted, confidence


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Checks that every label has a name.

    Raises:
        DataError: one has none.
    """
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise DataError(
            f"a row has the label {wrong}, and there are {num_classes} class names; labels go from 0 to "
            f"{num_classes - 1}. Give a name for every label, in their order, with --class-names FILE"
        )
