"""Zero-shot classification by a head that says how likely a text is for a picture, where texts have no vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from diptych.data.table import Rows
from diptych.progress import SILENT, Progress
from diptych.tasks.classified import Classified, classify
from diptych.tasks.encoder import DualEncoder
from diptych.tasks.prompts import fill
from diptych.tasks.zero_shot import labelled_pictures

TILE = 256
"""Pictures that go through the head at once."""


class Likelihood(Protocol):
    """What is asked of a head."""

    def log_likelihood(self, image: Tensor, ids: Tensor) -> Tensor:
        """(B, E) vectors as they leave the tower and the (T,) ids of one text to (B,) log-probabilities."""


def zero_shot_by_likelihood(
    encoder: DualEncoder,
    head: Likelihood,
    rows: Rows,
    *,
    class_names: Sequence[Sequence[str]],
    templates: Sequence[str],
    limit: int | None = None,
    progress: Progress = SILENT,
) -> Classified:
    """Gives each labelled picture of a split the class whose texts are likeliest.

    For the two predictive objectives of CLIP, arXiv:2103.00020, figure 2, whose scoring is unpublished. Here a class is
    as probable as its texts are on average.

    Args:
        encoder: the model, whose picture tower the head reads.
        head: of the objective that it was trained by.
        rows: the split; rows without a label are passed over.
        class_names: C classes in the order of the labels, at least two, each with one name or several.
        templates: texts in which `{}` stands for the name.
        limit: at most so many rows, evenly spread over the split.
        progress: where the work is drawn.
    Raises:
        DataError: no row has both picture and label, or a label has no name.
    """
    encode = partial(encoder.encode_image, normalize=False)
    found, labels = labelled_pictures(encode, rows, len(class_names), limit=limit, progress=progress)
    texts = [
        [encoder.inputs.text_ids(fill(template, name)).to(encoder.device) for name in names for template in templates]
        for names in class_names
    ]
    ranks, predicted, confidence = classify(_log_probabilities(head, found.vectors, texts, encoder.device), labels)
    return Classified(
        split=rows.name,
        rows=found.rows,
        keys=tuple(sample.key for sample in found.samples),
        class_names=tuple(names[0] for names in class_names),
        labels=labels,
        ranks=ranks,
        predicted=predicted,
        confidence=confidence,
        rejects=found.rejects,
    )


@torch.inference_mode()
def _log_probabilities(
    head: Likelihood, image: Tensor, texts: Sequence[Sequence[Tensor]], device: torch.device
) -> Iterator[Tensor]:
    """(n, C) a tile: the mean probability of each class's texts, as a logarithm."""
    for start in range(0, len(image), TILE):
        tile = image[start : start + TILE].to(device)
        by_class = [torch.stack([head.log_likelihood(tile, ids) for ids in mine]) for mine in texts]  # (K, n) each
        yield torch.stack([scores.logsumexp(dim=0) - math.log(len(scores)) for scores in by_class], dim=1).cpu()
