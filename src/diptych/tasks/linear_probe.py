"""Linear probe: how well a linear classifier on frozen features tells the classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from diptych.data.sample import random_for
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.tasks.classified import Classified, check_labels, classify
from diptych.tasks.encoder import Towers
from diptych.tasks.logistic import Labelled, best_strength, fit_logistic, search_strength
from diptych.tasks.pictures import EncodedPictures, encode_pictures
from diptych.tasks.vectors import InFile

VALIDATION_SHARE = 0.2
"""Of the training rows, where a table has no validation split."""


@dataclass(frozen=True, kw_only=True)
class LinearProbeResult(Classified):
    """What the classifier took each test picture for, and how it was fitted."""

    strength: float
    """The lambda that was best on validation."""
    searched: Mapping[float, float]
    """Validation accuracy of every lambda that was tried, in rising order."""
    validation: str
    """What it was chosen on, in words."""
    num_train: int
    """Rows of the last fit, validation among them."""

    def numbers(self) -> dict[str, float]:
        """Those of every classification, and lambda with its accuracy on validation."""
        return super().numbers() | {
            "num_train": self.num_train,
            "lambda": self.strength,
            "validation_top1": self.searched[self.strength],
        }


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
    penalty is chosen on validation, then the classifier is fitted anew on training and validation together. Features
    go into files of a temporary folder (4 N D bytes in all) and are read from there a tile at a time, so that what is
    in memory besides the weights grows only by keys and labels.

    Args:
        encoder: the model.
        train: rows to fit on; rows without a label are passed over, here and below.
        validation: rows to choose the strength on; None: a fifth of the training rows, drawn by `seed`.
        test: rows that the result is about; nothing is chosen on them.
        class_names: C names in the order of the labels.
        limit: at most so many rows of each split, evenly spread over it.
        seed: of the split that stands in for validation.
        progress: where the work is drawn.
    Raises:
        DataError: a split has no labelled pictures, or a label no name.
    """
    with TemporaryDirectory(prefix="diptych-", ignore_cleanup_errors=True) as folder:
        learning, asked = InFile(Path(folder) / "learning"), InFile(Path(folder) / "asked")
        found = [
            _features(learning, encoder, rows, len(class_names), limit, progress)
            for rows in (train, validation)
            if rows is not None
        ]
        pictures = _features(asked, encoder, test, len(class_names), limit, progress)
        together = Labelled(features=learning.whole(), labels=torch.cat([_labels(part) for part in found]))
        if validation is None:
            fitting, choosing = set_apart(together, seed)
            told = f"{len(choosing)} of the training rows, drawn by seed {seed}"
        else:
            num = len(found[0].rows)
            fitting, choosing = together.of(torch.arange(num)), together.of(torch.arange(num, len(together)))
            told = f"the {len(choosing)} rows of the split {validation.name!r}"
        searched = search_strength(fitting, choosing, num_classes=len(class_names), progress=progress)
        strength = best_strength(searched)
        model = fit_logistic(together, num_classes=len(class_names), strength=strength)
        testing = Labelled(features=pictures.vectors, labels=_labels(pictures))
        ranks, predicted, confidence = classify((model.scores(tile) for tile, _ in testing.tiles()), testing.labels)
    return LinearProbeResult(
        split=test.name,
        rows=pictures.rows,
        keys=tuple(sample.key for sample in pictures.samples),
        class_names=class_names,
        labels=testing.labels,
        ranks=ranks,
        predicted=predicted,
        confidence=confidence,
        strength=strength,
        searched=searched,
        validation=told,
        num_train=len(together),
        rejects=tuple(reject for part in (*found, pictures) for reject in part.rejects),
    )


def _features(
    put: InFile, encoder: Towers, rows: Rows, num_classes: int, limit: int | None, progress: Progress
) -> EncodedPictures:
    """The labelled pictures of a split, their features put into a file."""
    found = encode_pictures(
        encoder.image_features,
        rows,
        spread_rows(len(rows), limit),
        wanted=lambda sample: sample.label is not None,
        with_texts=False,
        put=put,
        name=f"features of {rows.name}",
        progress=progress,
    )
    if not found.rows:
        raise DataError(f"the split {rows.name!r} has no row with both a picture and a label; a probe needs labels")
    check_labels(_labels(found), num_classes)
    return found


def _labels(found: EncodedPictures) -> Tensor:
    """(P,) int64."""
    return torch.tensor([sample.label for sample in found.samples])


def set_apart(rows: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """The rows to fit on and those to choose on, a fifth drawn by `seed`, where there is no validation split.

    Raises:
        DataError: they are too few.
    """
    num = round(VALIDATION_SHARE * len(rows))
    if num < 1:
        raise DataError(f"{len(rows)} training rows are too few to set some apart for validation; expected 3 or more")
    order = torch.from_numpy(random_for(seed, 0, "linear probe").permutation(len(rows)))
    return rows.of(order[num:]), rows.of(order[:num])
