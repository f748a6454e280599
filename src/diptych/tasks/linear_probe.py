"""Linear probe: how well a linear classifier on frozen features tells the classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.data.rejects import Reject
from diptych.data.sample import random_for
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.accuracy import confusion_matrix, mean_per_class, predictions, ranks_of_labels
from diptych.metrics.intervals import wilson
from diptych.metrics.recall import recall_at_k
from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers
from diptych.tasks.logistic import Labelled, best_strength, fit_logistic, search_strength
from diptych.tasks.pictures import EncodedPictures, encode_pictures
from diptych.tasks.zero_shot import check_labels

VALIDATION_SHARE = 0.2
"""Of the training rows, where a table has no validation split."""


@dataclass(frozen=True, kw_only=True)
class LinearProbeResult:
    """What the classifier took each test picture for. N pictures, C classes."""

    split: str
    rows: tuple[int, ...]
    """(N) rows of the split."""
    keys: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: Tensor
    """(N,) int64."""
    ranks: Tensor
    """(N,) rank of the right class, from 0."""
    predicted: Tensor
    """(N,) class that was taken."""
    confidence: Tensor
    """(N,) probability of the class that was taken."""
    strength: float
    """The lambda that was best on validation."""
    searched: Mapping[float, float]
    """Validation accuracy of every lambda that was tried, in rising order."""
    validation: str
    """What it was chosen on, in words."""
    num_train: int
    """Rows of the last fit, validation among them."""
    rejects: tuple[Reject, ...] = ()

    @property
    def right(self) -> Tensor:
        """(N,) bool."""
        return self.ranks == 0

    def numbers(self) -> dict[str, float]:
        """Shares of 1: top-1 with its interval, top-5, mean per class, chance; and lambda with its accuracy."""
        low, high = wilson(int(self.right.sum()), len(self.labels))
        return {
            "top1": recall_at_k(self.ranks, 1),
            "top1_low": low,
            "top1_high": high,
            "top5": recall_at_k(self.ranks, 5),
            "mean_per_class": mean_per_class(self.right, self.labels, len(self.class_names)),
            "chance": 1 / len(self.class_names),
            "num": len(self.labels),
            "num_train": self.num_train,
            "lambda": self.strength,
            "validation_top1": self.searched[self.strength],
        }

    def confusion(self) -> Tensor:
        """(C, C) int64, true class by row, class taken by column."""
        return confusion_matrix(self.predicted, self.labels, len(self.class_names))


def linear_probe(
    encoder: Towers,
    train: Rows,
    validation: Rows | None,
    test: Rows,
    *,
    class_names: tuple[str, ...],
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> LinearProbeResult:
    """Logistic regression on frozen features. CLIP, arXiv:2103.00020, appendix A.3.

    Features are taken before the joint projection, without augmentation or normalisation; the strength of the L2
    penalty is chosen on validation, then the classifier is fitted anew on training and validation together.

    Args:
        encoder: the model.
        train: rows to fit on; rows without a label are passed over, here and below.
        validation: rows to choose the strength on; None: a fifth of the training rows, drawn by `seed`.
        test: rows that the result is about; nothing is chosen on them.
        class_names: C names in the order of the labels.
        limit: only the first rows of each split, so many.
        seed: of the split that stands in for validation.
        progress: where the work is drawn.
    Raises:
        DataError: a split has no labelled pictures, or a label no name.
    """
    fitting, fitting_pictures = _labelled(encoder, train, len(class_names), limit, progress)
    if validation is None:
        fitting, choosing = _set_apart(fitting, seed)
        told = f"{len(choosing)} of the training rows, drawn by seed {seed}"
    else:
        choosing, _ = _labelled(encoder, validation, len(class_names), limit, progress)
        told = f"the {len(choosing)} rows of the split {validation.name!r}"
    testing, pictures = _labelled(encoder, test, len(class_names), limit, progress)
    searched = search_strength(fitting, choosing, num_classes=len(class_names), progress=progress)
    strength = best_strength(searched)
    together = fitting + choosing
    model = fit_logistic(together, num_classes=len(class_names), strength=strength)
    scores = model.scores(testing.features)
    predicted = predictions(scores, testing.labels)
    return LinearProbeResult(
        split=test.name,
        rows=pictures.rows,
        keys=tuple(sample.key for sample in pictures.samples),
        class_names=class_names,
        labels=testing.labels,
        ranks=ranks_of_labels(scores, testing.labels),
        predicted=predicted,
        confidence=scores.softmax(dim=1).gather(1, predicted[:, None])[:, 0],
        strength=strength,
        searched=searched,
        validation=told,
        num_train=len(together),
        rejects=(*fitting_pictures.rejects, *pictures.rejects),
    )


def _labelled(
    encoder: Towers, rows: Rows, num_classes: int, limit: int | None, progress: Progress
) -> tuple[Labelled, EncodedPictures]:
    """Features and labels of a split."""
    found = encode_pictures(
        encoder.image_features,
        rows,
        range(len(rows) if limit is None else min(len(rows), limit)),
        wanted=lambda sample: sample.label is not None,
        name=f"features of {rows.name}",
        progress=progress,
    )
    if not found.rows:
        raise DataError(f"the split {rows.name!r} has no row with both a picture and a label; a probe needs labels")
    labels = torch.tensor([sample.label for sample in found.samples])
    check_labels(labels, num_classes)
    return Labelled(features=found.vectors, labels=labels), found


def _set_apart(rows: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """The rows to fit on and those to choose on, where a table has no validation split."""
    num = round(VALIDATION_SHARE * len(rows))
    if num < 1:
        raise DataError(f"{len(rows)} training rows are too few to set some apart for validation; expected 3 or more")
    order = torch.from_numpy(random_for(seed, 0, "linear probe").permutation(len(rows)))
    return rows.of(order[num:]), rows.of(order[:num])
