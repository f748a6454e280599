"""The contract of every objective, and the Loss it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets, reading
from diptych.data.sample import Item, Rng
from diptych.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Dual:
    """What a model of two towers makes of a batch: vectors as they leave the projection, not yet normalised."""

    image: Tensor
    """(B, E)."""
    text: Tensor
    """(B, E)."""
    scale: Tensor
    """() what cosines are multiplied by: the inverse of the temperature."""
    group: Tensor
    """(B,) int64: rows of equal group are true pairs."""
    all_image: Tensor | None = None
    """(N, E) of all ranks, filled by the loop for objectives that couple rows; None: the local rows are all."""
    all_text: Tensor | None = None
    all_group: Tensor | None = None
    offset: int = 0
    """Where the local rows begin in the gathered ones."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Words or regions before the first layer of a model of one stream; can be kept and fused with any others."""

    hidden: Tensor
    """(B, L, D)."""
    mask: Tensor
    """(B, L) bool, True where real."""
    read: Tensor | None = None
    """(B, L) bool: the positions whose states are read after the last layer; None: all."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """What a model of one stream makes of a batch: the states of all tokens after its last layer."""

    hidden: Tensor
    """(B, L, D): the parts one after the other, each as wide as in the batch; zero where padded."""
    mask: Tensor
    """(B, L) bool, True where real."""
    lengths: Mapping[str, int]
    """Columns of each part, in their order: "text", "regions"."""
    pooled: Tensor
    """(B, D) what stands for the whole row."""
    word_table: Tensor
    """(V, D) the embedded vocabulary, with which the head that predicts words multiplies."""
    feature_table: Tensor
    """(D, F) what region features are embedded by, with whose transpose the head that predicts them multiplies."""

    @property
    def text(self) -> Tensor:
        """(B, T, D)."""
        return self.hidden[:, self._columns("text")]

    @property
    def text_mask(self) -> Tensor:
        """(B, T) bool."""
        return self.mask[:, self._columns("text")]

    @property
    def regions(self) -> Tensor:
        """(B, R, D)."""
        return self.hidden[:, self._columns("regions")]

    @property
    def region_mask(self) -> Tensor:
        """(B, R) bool."""
        return self.mask[:, self._columns("regions")]

    def _columns(self, part: str) -> slice:
        """Those of a part; none where the batch had no such part."""
        names = list(self.lengths)
        before = names[: names.index(part)] if part in names else []
        start = sum(self.lengths[name] for name in before)
        return slice(start, start + self.lengths.get(part, 0))


@dataclass(frozen=True, kw_only=True)
class Term:
    """A sum over what was counted; the loop divides it by the count over all ranks and micro-batches."""

    total: Tensor
    """() sum in nats, float32."""
    count: int
    weight: float = 1.0


@dataclass(frozen=True)
class Loss:
    """Named terms, never yet divided, so that splitting a batch changes nothing."""

    terms: Mapping[str, Term] = field(default_factory=dict)

    @staticmethod
    def term(name: str, *, total: Tensor, count: int, weight: float = 1.0) -> Loss:
        """A loss of one term."""
        return Loss({name: Term(total=total, count=count, weight=weight)})

    def total(self) -> Tensor:
        """Σ weight · sum, undivided."""
        return torch.stack([term.weight * term.total for term in self.terms.values()]).sum()

    def divided(self, counts: Mapping[str, int]) -> Tensor:
        """Σ weight · sum / count with the counts of the whole step; what the loop goes back through.

        A term whose count is zero adds nothing, and still is part of the graph.
        """
        parts = [term.weight * term.total / max(counts[name], 1) for name, term in self.terms.items()]
        return torch.stack(parts).sum()

    def means(self) -> dict[str, float]:
        """Each term over its own count, unweighted, for logs; 0 where nothing was counted."""
        return {name: float(term.total.detach()) / max(term.count, 1) for name, term in self.terms.items()}

    def __add__(self, other: Loss) -> Loss:
        """Both losses; terms of one name add their sums and counts."""
        merged = dict(self.terms)
        for name, term in other.terms.items():
            mine = merged.get(name)
            merged[name] = (
                term
                if mine is None
                else Term(total=mine.total + term.total, count=mine.count + term.count, weight=term.weight)
            )
        return Loss(merged)

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)


class Encode(Protocol):
    """What an objective may ask of a model: the encoding of a batch, any number of times, and its heads by name.

    A room's model is one; gradient caching puts another in its place.
    """

    @property
    def heads(self) -> nn.ModuleDict:
        """The heads that objectives asked for, owned by the model and saved with it."""

    def at_rest(self) -> AbstractContextManager[None]:
        """Neither gradients nor dropout, for what only chooses what is learned from; of models of one stream."""

    def __call__(self, batch: Batch) -> Any:
        """The room's Encoding of `batch`."""


def single(item: Item) -> Item:
    """The item, where it is one text with one picture.

    Raises:
        DataError: it is several sequences: it asks about several pictures, or has options.
    """
    if item.sequences:
        raise DataError(
            f"{item.key} has {len(item.sequences)} pictures or options; this task reads one text with one picture a row"
        )
    return item


def pooled(encode: Encode, batch: Batch) -> Tensor:
    """(B, D) what stands for each row, of a model of one stream; its last layer is computed for that alone."""
    if batch.text is None:
        fused: Fused = encode(batch)
    else:
        first = torch.zeros_like(batch.text.mask)
        first[:, 0] = True
        fused = encode(reading(batch, text=first))
    return fused.pooled


class OwnRow:
    """What objectives share that ask of a row no more than the room reads of it, and need no other row."""

    @property
    def columns(self) -> tuple[str, ...]:
        """None beside the room's."""
        return ()

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """No other row is needed."""
        return ()


class RowsApart(OwnRow):
    """What objectives share whose rows do not see each other."""

    @property
    def couples_rows(self) -> bool:
        """Every row stands alone."""
        return False

    def chance_loss(self, num_rows: int) -> float | None:
        """None: what a guess costs hangs on more than the number of rows, a vocabulary for instance."""
        return None


class Objective(Protocol):
    """One training objective: a frozen dataclass whose fields are its settings."""

    @property
    def name(self) -> str:
        """Its term's and its head's name, where it has one of each."""

    @property
    def couples_rows(self) -> bool:
        """True where rows see each other (contrast), so that the loop must gather before the loss."""

    def chance_loss(self, num_rows: int) -> float | None:
        """The mean loss of guessing among `num_rows` rows, for logs; None where there is no such number."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Own columns of the table that an item is to be made of, beside those that the room always reads."""

    def heads(self, config: Any) -> Mapping[str, nn.Module]:
        """New heads for a model of the room's config, which owns them under these names; most are the objective's."""

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """The places, among the `num_others` other rows, of those that `draw` needs; of most objectives none."""

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """What is masked, swapped or asked of one item, in the loader's worker; returns new values."""

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """The count of every term, known before the forward pass."""

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sums over the rows of `batch`."""
