"""Zero-shot classification: the class whose texts are nearest to the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.data.sample import Sample
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.recall import dot_products
from diptych.progress import SILENT, Progress
from diptych.tasks.classified import Classified, check_labels, classify
from diptych.tasks.encoder import Towers
from diptych.tasks.pictures import EncodedPictures, encode_pictures
from diptych.tasks.prompts import fill
from diptych.tasks.texts import encode_texts

TILE = 4096
"""Pictures whose scores for all classes are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotResult(Classified):
    """What each picture was taken for, and by which texts. N pictures, C classes."""

    templates: tuple[str, ...]
    image: Tensor
    """(N, E) normalised."""
    classes: Tensor
    """(C, E) normalised."""


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
        limit: at most so many rows, evenly spread over the split.
        progress: where the work is drawn.
    Raises:
        DataError: no row has both picture and label, or a label has no name.
    """
    found, labels = labelled_pictures(encoder.encode_image, rows, len(class_names), limit=limit, progress=progress)
    classes = class_vectors(encoder, class_names, templates, progress=progress)
    ranks, predicted, confidence = classify(_logits(found.vectors, classes, encoder.scale), labels)
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


def labelled_pictures(
    encode: Callable[[Sequence[Sample]], Tensor],
    rows: Rows,
    num_classes: int,
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> tuple[EncodedPictures, Tensor]:
    """The pictures of a split that have a label, encoded, and their (N,) labels.

    Args:
        encode: samples to (num, E) vectors.
        rows: the split; rows without a label are passed over.
        num_classes: that there are names for.
        limit: at most so many rows, evenly spread over the split.
        progress: where the work is drawn.
    Raises:
        DataError: there is nothing to choose from, no row has both picture and label, or a label has no name.
    """
    if num_classes < 2:
        raise DataError(f"there are {num_classes} class names; zero-shot needs at least two to choose from")
    chosen = spread_rows(len(rows), limit)
    found = encode_pictures(encode, rows, chosen, wanted=lambda sample: sample.label is not None, progress=progress)
    if not found.rows:
        raise DataError(f"the split {rows.name!r} has no row with both a picture and a label; zero-shot needs labels")
    labels = torch.tensor([sample.label for sample in found.samples])
    check_labels(labels, num_classes)
    return found, labels


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


def _logits(image: Tensor, classes: Tensor, scale: float) -> Iterator[Tensor]:
    for start in range(0, len(image), TILE):
        yield scale * dot_products(image[start : start + TILE], classes)
