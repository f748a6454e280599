"""Zero-shot classification: the class whose texts are nearest to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.data.rejects import Reject
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.accuracy import confusion_matrix, mean_per_class, predictions, ranks_of_labels
from diptych.metrics.calibration import calibration_bins
from diptych.metrics.intervals import wilson
from diptych.metrics.recall import dot_products, recall_at_k
from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers
from diptych.tasks.pictures import encode_pictures
from diptych.tasks.prompts import fill
from diptych.tasks.texts import encode_texts

TILE = 4096
"""Pictures whose scores for all classes are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotResult:
    """What each picture was taken for. N pictures, C classes."""

    split: str
    rows: tuple[int, ...]
    """(N) rows of the split."""
    keys: tuple[str, ...]
    class_names: tuple[str, ...]
    """(C) the first name of each."""
    templates: tuple[str, ...]
    image: Tensor
    """(N, E) normalised."""
    classes: Tensor
    """(C, E) normalised."""
    labels: Tensor
    """(N,) int64."""
    ranks: Tensor
    """(N,) rank of the right class, from 0."""
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


def zero_shot(
    encoder: Towers,
    rows: Rows,
    *,
    class_names: Sequence[Sequence[str]],
    templates: Sequence[str],
    limit: int | None = None,
    progress: Progress = SILENT,
) -> ZeroShotResult:
    """Gives each labelled picture of a split the class with the nearest texts. CLIP, arXiv:2103.00020, section 3.1.

    Args:
        encoder: the model.
        rows: the split; rows without a label are passed over.
        class_names: C classes in the order of the labels, at least two, each with one name or several.
        templates: texts in which `{}` stands for the name; their vectors are averaged by class.
        limit: only the first rows, so many.
        progress: where the work is drawn.
    Raises:
        DataError: no row has both picture and label, or a label has no name.
    """
    if len(class_names) < 2:
        raise DataError(f"there are {len(class_names)} class names; zero-shot needs at least two to choose from")
    classes = class_vectors(encoder, class_names, templates, progress=progress)
    found = encode_pictures(
        encoder.encode_image,
        rows,
        range(len(rows) if limit is None else min(len(rows), limit)),
        wanted=lambda sample: sample.label is not None,
        progress=progress,
    )
    if not found.rows:
        raise DataError(f"the split {rows.name!r} has no row with both a picture and a label; zero-shot needs labels")
    labels = torch.tensor([sample.label for sample in found.samples])
    check_labels(labels, len(class_names))
    ranks, predicted, confidence = _classify(found.vectors, classes, labels, float(encoder.scale))
    return ZeroShotResult(
        split=rows.name,
        rows=found.rows,
        keys=tuple(sample.key for sample in found.samples),
        class_names=tuple(names[0] for names in class_names),
        templates=tuple(templates),
        image=found.vectors,
        classes=classes,
        labels=labels,
        ranks=ranks,
        predicted=predicted,
        confidence=confidence,
        rejects=found.rejects,
    )


def class_vectors(
    encoder: Towers,
    class_names: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    progress: Progress = SILENT,
) -> Tensor:
    """One vector a class: its names in all templates, each text normalised, averaged, and normalised again.

    CLIP, arXiv:2103.00020, section 3.1.4: ensembling in embedding space, which costs nothing when classifying.

    Args:
        encoder: the model.
        class_names: C classes, each with one name or several.
        templates: with `{}` for the name.
        progress: where the work is drawn.
    Returns:
        (C, E) normalised.
    """
    texts = [[fill(template, name) for name in names for template in templates] for names in class_names]
    encoded = encode_texts(
        encoder, (text for mine in texts for text in mine), name="encoding classes", progress=progress
    )
    return F.normalize(torch.stack([encoded.of(mine).mean(dim=0) for mine in texts]), dim=1)


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


def _classify(image: Tensor, classes: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks of the right classes, classes taken, and the probability of each, (N,) all."""
    parts = []
    for start in range(0, len(image), TILE):
        scores, mine = dot_products(image[start : start + TILE], classes), labels[start : start + TILE]
        predicted = predictions(scores, mine)
        certainty = (scale * scores).nan_to_num(neginf=-1e30).softmax(dim=1).gather(1, predicted[:, None])[:, 0]
        parts.append((ranks_of_labels(scores, mine), predicted, certainty))
    ranks, predicted, confidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return ranks, predicted, confidence
