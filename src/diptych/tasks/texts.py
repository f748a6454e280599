"""Texts through a text encoder, each different one once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers

CHUNK = 1024
"""Texts between two marks of the progress bar."""


@dataclass(frozen=True, kw_only=True)
class EncodedTexts:
    """The vectors of different texts."""

    place: Mapping[str, int]
    vectors: Tensor
    """(num, E) float32, normalised; row `place[text]` is that of `text`."""

    def of(self, texts: Sequence[str]) -> Tensor:
        """(T, E) the vectors of these texts, which may repeat."""
        return self.vectors[[self.place[text] for text in texts]]


def encode_texts(
    encoder: Towers, texts: Iterable[str], *, name: str = "encoding texts", progress: Progress = SILENT
) -> EncodedTexts:
    """Encodes each different text once.

    Args:
        encoder: the model.
        texts: at least one; they may repeat.
        name: of the progress bar.
        progress: where it is drawn.
    """
    different = list(dict.fromkeys(texts))
    vectors = []
    with progress.bar(name, total=len(different), unit="texts") as bar:
        for start in range(0, len(different), CHUNK):
            chunk = different[start : start + CHUNK]
            vectors.append(encoder.encode_text(chunk))
            bar.advance(len(chunk))
    return EncodedTexts(place={text: row for row, text in enumerate(different)}, vectors=torch.cat(vectors))
