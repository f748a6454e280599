"""Found: the vectors of a retrieval with what is needed to show them. The sections about pictures read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diptych.report.pictures import Picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Pictures and texts that looked for each other."""

    image: Tensor
    """(N, E) float32, normalised."""
    text: Tensor
    """(M, E) float32, normalised."""
    texts: Sequence[str]
    """M of them."""
    pictures_of_text: Sequence[Sequence[int]]
    """For each text the rows of its right pictures."""
    texts_of_picture: Sequence[Sequence[int]]
    """For each picture the rows of its right texts."""
    text_ranks: Tensor
    """(M,) int64 rank of the first right picture of each text, from 0."""
    image_ranks: Tensor
    """(N,) int64 rank of the first right text of each picture, from 0."""
    picture: Callable[[int], Picture]
    """The picture of a row of the gallery, undecoded."""
    scale: float | None = None
    """What the model multiplies cosines by before its softmax, where it says."""
    labels: Sequence[int | None] = ()
    """N class numbers, or nothing."""
    label_names: Sequence[str] = ()

    def owner(self, text: int) -> int:
        """The first right picture of a text."""
        return self.pictures_of_text[text][0]


def drawn(num: int, of: int, *, seed: int, purpose: str) -> list[int]:
    """`num` different rows of `of`, every one as likely, the same for the same seed; sorted."""
    rng = np.random.default_rng([seed, *purpose.encode()])
    return sorted(int(row) for row in rng.choice(of, size=min(num, of), replace=False))
