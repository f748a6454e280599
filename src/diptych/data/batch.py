"""Batch: what every room's model reads. Padding, and the moves that keep its parts together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from diptych.data.sample import Item, ItemRegions, Rng, Sample

IGNORE = -100
"""The label of a position that no loss reads."""

Targets = Mapping[str, Tensor]
"""What an objective drew for the rows of a batch, by its own names, batch first."""


class Rowwise:
    """What has a row for each of a batch: a dataclass of tensors and tuples, batch first, and of others like it."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        return self._changed(lambda value: _moved(value, device))

    def rows(self, start: int, stop: int) -> Self:
        """The rows [start, stop)."""
        return self._changed(lambda value: value.rows(start, stop) if isinstance(value, Rowwise) else value[start:stop])

    def at(self, places: Tensor) -> Self:
        """The rows at (N,) places, in that order."""
        listed = places.tolist()
        return self._changed(
            lambda value: value[places] if isinstance(value, Tensor) else tuple(value[place] for place in listed)
        )

    def _changed(self, change: Callable[[Any], Any]) -> Self:
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})  # type: ignore[type-var]


def _moved(value: Any, device: torch.device | str) -> Any:
    match value:
        case Rowwise():
            return value.to(device)
        case Tensor():
            return value.to(device, non_blocking=True)
        case _:
            return value


@dataclass(frozen=True, kw_only=True)
class TextPart(Rowwise):
    """Words of a batch."""

    ids: Tensor
    """(B, T) int64."""
    mask: Tensor
    """(B, T) bool, True where real."""
    types: Tensor | None = None
    """(B, T) int64: which text of several a token belongs to; None: there is one."""
    read: Tensor | None = None
    """(B, T) bool: the positions whose states are read after the last layer; None: all. See `reading`."""


@dataclass(frozen=True, kw_only=True)
class ImagePart(Rowwise):
    """Pictures of a batch."""

    pixels: Tensor
    """(B, 3, height, width) uint8; the model scales and normalises them on its own device."""
    sizes: tuple[tuple[int, int], ...] | None = None
    """Height and width of each picture, the rest being padding at the right and below; None: all fill the tensor."""


@dataclass(frozen=True, kw_only=True)
class ObjectPart(Rowwise):
    """What is known to be in the pictures of a batch."""

    boxes: Tensor
    """(B, R, 4) float32: x0, y0, x1, y1 in pixels of the batch."""
    mask: Tensor
    """(B, R) bool, True where real."""
    labels: Tensor
    """(B, R) int64, from 0."""
    attributes: Tensor
    """(B, R, A) bool."""
    crowd: Tensor
    """(B, R) bool: nothing is learned of it, and what is found in it is no mistake."""
    seeds: tuple[int, ...]
    """Of what a model samples for each picture."""


@dataclass(frozen=True, kw_only=True)
class RegionPart(Rowwise):
    """Regions of the pictures of a batch, to be read; see `ItemRegions`."""

    features: Tensor
    """(B, R, F) of any float type."""
    boxes: Tensor
    """(B, R, 4) float32: x0, y0, x1, y1 in [0, 1], for drawing, overlap and pooling."""
    box_features: Tensor
    """(B, R, n) float32: the numbers that the room's paper feeds its network."""
    mask: Tensor
    """(B, R) bool, True where real."""
    types: Tensor | None = None
    """(B, R) int64; None: there is one picture a row."""
    hidden: Tensor | None = None
    """(B, R) bool: the model does not see these features; None: it sees all."""
    read: Tensor | None = None
    """(B, R) bool, likewise."""


@dataclass(frozen=True, kw_only=True)
class Batch(Rowwise):
    """Rows with the parts that a room reads; a part that it does not read is None.

    Cut into micro-batches, texts and regions keep their padded length.
    """

    keys: tuple[str, ...]
    group: Tensor
    """(B,) int64: rows of equal group are true pairs of each other."""
    text: TextPart | None = None
    image: ImagePart | None = None
    objects: ObjectPart | None = None
    regions: RegionPart | None = None
    sequences: int = 1
    """S, that each row has in the parts: of a row next to each other, as `Item.sequences` has them."""

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, start: int, stop: int) -> Self:
        """The rows [start, stop), with all their sequences."""
        wide = self.sequences

        def cut(value: Any) -> Any:
            match value:
                case Rowwise():
                    return value.rows(start * wide, stop * wide)
                case int():
                    return value
                case _:
                    return value[start:stop]

        return self._changed(cut)

    def chosen(self, places: Tensor) -> Self:
        """The batch with some sequences of each row: (B, N) places among the row's S."""
        first = self.sequences * torch.arange(len(self), device=places.device)
        flat = (first[:, None] + places).flatten()
        parts = {name: None if part is None else part.at(flat) for name, part in self._parts().items()}
        return replace(self, sequences=places.shape[1], **parts)  # type: ignore[arg-type]

    def _parts(self) -> dict[str, Rowwise | None]:
        return {"text": self.text, "image": self.image, "objects": self.objects, "regions": self.regions}


class Inputs(Protocol):
    """A room's way from a sample to a batch; pickled into the workers of the loader."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Own columns, of a table or of a joined store, that `item` always reads in `sample.fields`; an objective may
        ask for more."""

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        """Decodes and tokenizes one sample; `rng` None asks for the evaluation transform and the first text.

        Raises:
            DataError: the picture cannot be decoded or the text is missing; the loader rejects the row.
        """

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pads the items into a batch."""

    def save(self, folder: Path) -> None:
        """Writes what `item` needs besides the run's settings (the tokenizer) under `folder`."""


def reading(batch: Batch, *, text: Tensor | None = None, regions: Tensor | None = None) -> Batch:
    """The batch of which the states at these positions alone are read, and of a part that is not named none.

    Models compute their last layer for them alone; what they leave elsewhere, and as pooled, has no meaning.

    Args:
        batch: of texts, regions or both.
        text: (B, T) bool.
        regions: (B, R) bool.
    """

    def marked(part: Any, read: Tensor | None) -> Any:
        return None if part is None else replace(part, read=torch.zeros_like(part.mask) if read is None else read)

    return replace(batch, text=marked(batch.text, text), regions=marked(batch.regions, regions))


def pad(rows: Sequence[Tensor], value: float) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as one tensor, and a mask that is True where real.

    Args:
        rows: tensors (T_i, ...) that agree in all but the first dimension.
        value: what fills the rest.
    Returns:
        (B, T, ...) and (B, T) bool, with T the longest.
    """
    if not rows:
        raise ValueError("pad got no rows: the sampler yielded an empty batch")
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def join_regions(pictures: Sequence[ItemRegions]) -> ItemRegions:
    """The regions of several pictures, or of one picture found in several ways, one after the other.

    What one of them lacks, all lack.
    """

    def of(name: str) -> Tensor | None:
        values = [getattr(picture, name) for picture in pictures]
        return None if any(one is None for one in values) else torch.cat(values)

    return replace(pictures[0], **{one.name: of(one.name) for one in fields(ItemRegions)})  # type: ignore[arg-type]


def stack_targets(targets: Sequence[Targets]) -> Targets:
    """Targets of single items as targets of a batch: scalars stacked, rows padded with IGNORE.

    Args:
        targets: one mapping an item, all with the same names; every value () or (T_i,).
    """
    if not targets:
        return {}
    stacked: dict[str, Tensor] = {}
    for name in targets[0]:
        values = [target[name] for target in targets]
        stacked[name] = torch.stack(values) if values[0].dim() == 0 else pad(values, IGNORE)[0]
    return stacked


def move_targets(targets: Targets, device: torch.device | str) -> Targets:
    """The same targets on `device`."""
    return {name: value.to(device, non_blocking=True) for name, value in targets.items()}


def rows_of_targets(targets: Targets, start: int, stop: int) -> Targets:
    """The rows [start, stop) of the targets."""
    return {name: value[start:stop] for name, value in targets.items()}
