"""Rows of unequal length without their padding: the real tokens of all rows, one row after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

WASTE = 1.15
"""A group of rows is padded to its longest where that makes it larger by this factor at most."""


@dataclass(frozen=True)
class Group:
    """Rows of near-equal length that lie side by side in a packed tensor; attention pads them to the longest."""

    start: int
    stop: int
    """Tokens [start, stop) of the packed tensor."""
    rows: int
    length: int
    """Of the longest row."""
    mask: Tensor | None
    """(rows, length) bool, True where real; None where all rows are equally long."""
    places: Tensor | None
    """(stop - start,) of each token in (rows · length); None likewise."""

    def padded(self, packed: Tensor) -> Tensor:
        """The group's part of (N, D) as (rows, length, D), zero where padded."""
        part = packed[self.start : self.stop]
        if self.places is not None:
            part = part.new_zeros(self.rows * self.length, part.shape[1]).index_copy(0, self.places, part)
        return part.unflatten(0, (self.rows, self.length))

    def packed(self, padded: Tensor) -> Tensor:
        """(rows, length, D) to (stop - start, D)."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a padded tensor (B, L, ...) stand in a packed one (N, ...), the longest row first.

    Products of linear layers are then of real tokens alone. Made of the mask, in one place: nobody counts positions by
    hand.
    """

    index: Tensor
    """(N,) int64, in (B · L)."""
    shape: tuple[int, int]
    """B, L."""
    sizes: Tensor
    """(B,) int64: tokens of each row, the longest first."""
    lengths: tuple[int, ...]
    """The same as numbers."""

    @classmethod
    def of(cls, mask: Tensor) -> Packing:
        """The packing of (B, L) bool, True where real, with a real position in every row."""
        rows, length = mask.shape
        if mask.is_meta:  # shapes alone: every position counts
            sizes = torch.full((rows,), length, device=mask.device)
            return cls(torch.arange(rows * length, device=mask.device), (rows, length), sizes, (length,) * rows)
        sizes, order = mask.sum(dim=1).sort(descending=True, stable=True)
        row, column = mask[order].nonzero(as_tuple=True)
        return cls(order[row] * length + column, (rows, length), sizes, tuple(sizes.tolist()))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rows as attention that knows one length for all takes them.

        Off the CPU all rows are one group: there a launch costs more than the products of padding.
        """
        cuts = _cuts(self.lengths) if self.sizes.device.type == "cpu" else [0, len(self.lengths)]
        groups: list[Group] = []
        for first, last in itertools.pairwise(cuts):
            start = groups[-1].stop if groups else 0
            groups.append(_group(start, self.sizes[first:last], self.lengths[first:last]))
        return tuple(groups)

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int32: where each row begins in a packed tensor, and the end."""
        return F.pad(self.sizes.cumsum(dim=0, dtype=torch.int32), (1, 0))

    def pack(self, padded: Tensor) -> Tensor:
        """(B, L, ...) to (N, ...)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def unpack(self, packed: Tensor, places: Tensor | None = None) -> Tensor:
        """(N, D) to (B, L, D), zero where padded; with `places` (M,) in N, (M, D) of those tokens alone."""
        rows, length = self.shape
        index = self.index if places is None else self.index[places]
        flat = packed.new_zeros(rows * length, packed.shape[1]).index_copy(0, index, packed)
        return flat.unflatten(0, self.shape)


def _cuts(lengths: Sequence[int]) -> list[int]:
    """Where groups begin, and the end: of lengths that fall, as many to a group as WASTE allows."""
    cuts, real = [0], 0
    for row, length in enumerate(lengths):
        longest, rows = lengths[cuts[-1]], row - cuts[-1] + 1
        if longest * rows > WASTE * (real + length):
            cuts.append(row)
            real = 0
        real += length
    return [*cuts, len(lengths)]


def _group(start: int, sizes: Tensor, lengths: Sequence[int]) -> Group:
    """Rows of these lengths, as a tensor and as numbers, whose tokens begin at `start`."""
    stop, rows, longest = start + sum(lengths), len(lengths), lengths[0]
    if longest == lengths[-1]:
        return Group(start, stop, rows, longest, mask=None, places=None)
    mask = torch.arange(longest, device=sizes.device) < sizes[:, None]
    return Group(start, stop, rows, longest, mask=mask, places=mask.flatten().nonzero().squeeze(1))
