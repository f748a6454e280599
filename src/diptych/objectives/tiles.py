"""A similarity matrix that is never held whole: its tiles are made one by one, and again where they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

TILE = 2048
"""Rows and columns of a tile; its products run at nearly the rate of larger ones."""

STRIPS = 2
"""Of a tile, on a CPU: smaller ones stay in the cache between passes, but threads wait for each other more often."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Some rows against some columns."""

    row: slice
    column: slice
    rows: Tensor
    """(r, E), times the scale."""
    columns: Tensor
    """(c, E)."""
    logits: Tensor
    """(r, c), to be changed at will."""
    free: Tensor
    """(r, c) more to write in; of a strip, where the tile is to be read in strips."""

    def strips(self) -> Iterator[Tile]:
        """The tile some rows at a time, as many as `free` has."""
        for some in _slices(len(self.logits), len(self.free)):
            yield replace(
                self,
                row=slice(self.row.start + some.start, self.row.start + some.stop),
                rows=self.rows[some],
                logits=self.logits[some],
                free=self.free[: some.stop - some.start],
            )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Which entries of the matrix are true pairs: each row's own, and those of equal group where groups are given."""

    row_group: Tensor | None = None
    """(b,), with column_group (N,)."""
    column_group: Tensor | None = None
    offset: int = 0
    """The column of row 0's own pair; row i's is `offset + i`."""

    def leave_out_twins(self, tile: Tile) -> None:
        """Makes logits of equal group -inf, except those of own pairs."""
        twins = self._same_group(tile)
        if twins is not None:
            self.own(tile, twins).fill_(False)
            tile.logits.masked_fill_(twins, -torch.inf)

    def negate(self, tile: Tile) -> None:
        """Turns the sign of the logits of true pairs."""
        same = self._same_group(tile)
        if same is None:
            self.own(tile, tile.logits).neg_()
        else:
            torch.where(same, -tile.logits, tile.logits, out=tile.logits)

    def own(self, tile: Tile, matrix: Tensor) -> Tensor:
        """The diagonal of the tile's `matrix` on which own pairs lie; empty where they lie in other tiles."""
        return matrix.diagonal(tile.row.start + self.offset - tile.column.start)

    def rows_of_own(self, tile: Tile) -> slice:
        """The rows whose own pairs lie in the tile, in the order of `own`."""
        start = max(tile.row.start, tile.column.start - self.offset)
        return slice(start, max(start, min(tile.row.stop, tile.column.stop - self.offset)))

    def _same_group(self, tile: Tile) -> Tensor | None:
        if self.row_group is None or self.column_group is None:
            return None
        return self.row_group[tile.row, None] == self.column_group[None, tile.column]


def tiles(rows: Tensor, columns: Tensor, scale: Tensor, size: int, bias: Tensor | None = None) -> Iterator[Tile]:
    """The tiles of `scale · rows @ columns.T + bias` one after the other, each in the memory of the one before."""
    dtype = sum_dtype(rows, columns)
    at_once = max(1, size // STRIPS) if rows.device.type == "cpu" else size  # elsewhere a call costs more than it saves
    memory, free = (
        rows.new_empty(min(num, len(rows)) * min(size, len(columns)), dtype=dtype) for num in (size, at_once)
    )
    for row in _slices(len(rows), size):
        some = rows[row].to(dtype) * scale.to(dtype)
        for column in _slices(len(columns), size):
            others = columns[column].to(dtype)
            logits = memory[: len(some) * len(others)].view(len(some), len(others))
            strip = free[: min(at_once, len(some)) * len(others)].view(-1, len(others))
            if bias is None:
                torch.mm(some, others.mT, out=logits)
            else:
                torch.addmm(bias.to(dtype), some, others.mT, out=logits)
            yield Tile(row=row, column=column, rows=some, columns=others, logits=logits, free=strip)


def _slices(num: int, size: int) -> Iterator[slice]:
    for start in range(0, num, size):
        yield slice(start, min(start + size, num))


def sum_dtype(rows: Tensor, columns: Tensor) -> torch.dtype:
    """What products and sums are in: float32, or float64 where vectors are."""
    return torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)


class Gradient:
    """Of rows, columns and scale, from the gradient at the logits of each tile."""

    def __init__(self, rows: Tensor, columns: Tensor, scale: Tensor) -> None:
        self._of = rows, scale
        self._rows, self._columns = (torch.zeros_like(one, dtype=sum_dtype(rows, columns)) for one in (rows, columns))

    def add(self, tile: Tile) -> None:
        """Carries the gradient at a tile, which has taken the place of its logits, on to its vectors."""
        self._rows[tile.row].addmm_(tile.logits, tile.columns)  # the scale is not in it yet
        self._columns[tile.column].addmm_(tile.logits.mT, tile.rows)

    def value(self) -> tuple[Tensor, Tensor, Tensor]:
        """Asked for once, at the end; autograd casts each to the type of what it is the gradient of."""
        rows, scale = self._of
        # Σ at_logits · rows_i · columns_j over the whole matrix, of which the sums over columns are there: no tile
        # has to be read for it.
        of_scale = torch.linalg.vecdot(self._rows, rows.to(self._rows.dtype)).sum()
        return self._rows.mul_(scale), self._columns, of_scale
