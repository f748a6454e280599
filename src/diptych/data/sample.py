"""One row of a table on its way to a model: a Sample as stored, an Item as decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture with its texts, undecoded, as a table holds it."""

    key: str
    """Unique in its table."""
    group: str
    """Rows of one group show the same thing, so that they are true pairs of each other; the key where none is given."""
    image: bytes | Path | None
    """The file's bytes, or where they lie; None for text alone."""
    texts: tuple[str, ...] = ()
    label: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other columns that were asked for, and parts joined by key (regions, tags, patches ...)."""


@dataclass(frozen=True, kw_only=True)
class KnownObjects:
    """The objects in an item's picture, to learn from."""

    boxes: Tensor
    """(R, 4) float32: x0, y0, x1, y1 in pixels of the item."""
    labels: Tensor
    """(R,) int64, from 0."""
    attributes: Tensor
    """(R, A) bool."""
    crowd: Tensor
    """(R,) bool: nothing is learned of it, and what is found in it is no mistake."""
    seed: int = 0
    """Of what a model samples for this picture; an objective draws it."""


@dataclass(frozen=True, kw_only=True)
class ItemRegions:
    """The regions in an item's picture, to be read."""

    features: Tensor
    """(R, F) of any float type."""
    boxes: Tensor
    """(R, 4) float32: x0, y0, x1, y1 in [0, 1]."""
    box_features: Tensor
    """(R, n) float32: the numbers that the room's paper feeds its network of each box."""
    types: Tensor | None = None
    """(R,) int64: which picture of several it belongs to, as the room counts them; None: there is one."""
    hidden: Tensor | None = None
    """(R,) bool: the model does not see these features; an objective draws them."""
    soft_labels: Tensor | None = None
    """(R, 1 + C): what the detector thinks it is, background first. For objectives alone: no batch holds them."""

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, kw_only=True)
class WordIds:
    """What masking words needs to know of a vocabulary."""

    mask: int
    """What a masked piece becomes."""
    special: frozenset[int]
    """Start, end and padding, which are never masked."""
    words: tuple[int, int]
    """[first, end) of the ids of pieces that texts are made of."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A sample as a model reads it, before padding. Parts that a room does not use are None."""

    key: str
    group: int
    """64-bit hash of the sample's group."""
    pixels: Tensor | None = None
    """(3, height, width) uint8."""
    text_ids: Tensor | None = None
    """(T,) int64 vocabulary ids with start and end, without padding."""
    text_types: Tensor | None = None
    """(T,) int64: which text of several a token belongs to, as the room counts them; None: there is one."""
    wrong_texts: tuple[Tensor, ...] = ()
    """Each (T,): texts of the same words that as a rule are not true; see `SwappedWords`."""
    word_ids: WordIds | None = None
    """Of the vocabulary; None where it has no piece that masks."""
    objects: KnownObjects | None = None
    regions: ItemRegions | None = None
    answers: Tensor | None = None
    """(A,) float32: what each answer that the model knows is worth, from 0 to 1; None where nobody tells."""
    sequences: tuple[Item, ...] = ()
    """A row that a model reads as several texts with regions (VCR's options, NLVR2's two pictures) has them here, and
    no text or regions of its own; () where it is one."""
    right: int | None = None
    """Which of its sequences is right; None where nobody tells."""
    box: Tensor | None = None
    """(4,) float32: x0, y0, x1, y1 in [0, 1] of what its text means; None where nobody tells."""


class Rng(Protocol):
    """Where a draw gets its chance from; `random_for` makes one."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def integers(self, low: int, high: int | None = None) -> Any:
        """A whole number in [low, high), or in [0, low)."""

    def permutation(self, num: int) -> Any:
        """An array of [0, num) in an order by chance."""


def hash64(text: str) -> int:
    """A stable 64-bit hash (as a signed integer), the same on every machine and Python."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def random_for(seed: int, epoch: int, key: str, purpose: str = "") -> np.random.Generator:
    """The generator of one sample in one epoch: no worker, batch or rank changes what it draws."""
    digest = hashlib.blake2b(f"{seed}\0{epoch}\0{key}\0{purpose}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
