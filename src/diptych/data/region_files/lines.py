"""Rows of a TSV by byte offset: no quoting, no header, rows of a megabyte; only the index is held in memory."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from diptych.data.region_files.keys import by_key
from diptych.data.rejects import Reject
from diptych.errors import DataError

CHECKED = 100
"""Rows that lists of offsets and keys are compared in."""
T = TypeVar("T")


class Lines:
    """A text file mapped into memory, read row by row."""

    def __init__(self, path: Path) -> None:
        """Maps the file, whatever its size."""
        if not path.stat().st_size:
            raise DataError(f"{path} is empty")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._path, self._size = path, len(self._map)

    def starts(self) -> Iterator[int]:
        """The byte offset of every row. The last may lack its line end, if a download broke off."""
        start = 0
        while start < self._size:
            yield start
            end = self._map.find(b"\n", start)
            start = self._size if end < 0 else end + 1

    def ends(self, start: int, stop: int) -> bool:
        """Whether the row at `start` ends where the next begins, at `stop`."""
        return self._map.find(b"\n", start, stop) == stop - 1

    def is_last(self, start: int) -> bool:
        """Whether the row at `start` is the last one."""
        return start < self._size and self._map.find(b"\n", start) in (-1, self._size - 1)

    def ends_whole(self) -> bool:
        """Whether the last row has its line end."""
        return self._map[-1:] == b"\n"

    def torn(self) -> bool:
        """Whether a last row without its line end says something."""
        last = self._map.rfind(b"\n") + 1
        return last < self._size and not self.is_blank(last)

    def check_first(self) -> None:
        """Refuses a file that ends in its first row, whose numbers may be any part of those that were sent.

        Raises:
            DataError: telling so.
        """
        if self._map.find(b"\n") < 0:
            raise DataError(f"{self._path} ends within its first row: no whole row, or one without its line end")

    def key(self, start: int) -> bytes:
        """The first column of the row at `start`, whatever its bytes."""
        end = self._map.find(b"\t", start, start + 4096)
        line = self._map.find(b"\n", start, start + 4096)
        end = max(end, -1) if line < 0 or -1 < end < line else line
        return self._map[start : end if end >= 0 else min(start + 4096, self._size)].strip()

    def is_blank(self, start: int) -> bool:
        """Whether nothing stands in the row at `start`."""
        return not self.key(start) and not any(self.columns(start))

    def columns(self, start: int) -> list[bytes]:
        """All columns of the row at `start`.

        Raises:
            ValueError: the file was cut short since it was mapped.
        """
        if self._path.stat().st_size < self._size:
            raise ValueError("the file was cut short while it was open")
        end = self._map.find(b"\n", start)
        return [cell.strip() for cell in self._map[start : end if end >= 0 else self._size].split(b"\t")]


def array(name: str, cell: bytes, dtype: str, rows: int, width: int | None = None) -> np.ndarray:
    """A base64 cell as (rows, width), or as (rows,) of plain numbers.

    Args:
        name: of the column, for messages.
        cell: little-endian numbers in C order.
        dtype: as NumPy spells it, e.g. "<f4".
        rows: how many the row says there are.
        width: numbers a row; None: one; 0: as many as there are.

    Raises:
        ValueError: the bytes are not base64, or not as many.
    """
    try:
        data = base64.b64decode(cell, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is no base64: {error}") from error
    size = np.dtype(dtype).itemsize * rows
    if width == 0 and size and len(data) % size == 0:
        width = len(data) // size
    if len(data) != size * (1 if width is None else width):
        wanted = f"{rows} rows of {width or 'some'} numbers"
        raise ValueError(f"{name} has {len(data):,} bytes; expected {wanted}")
    found = np.frombuffer(data, dtype)
    return found if width is None else found.reshape(rows, width)


class Index(NamedTuple):
    """The rows of a TSV by their keys."""

    lines: Lines
    places: dict[str, int]
    """Where the row of each key begins, in the order of the file."""
    rejects: tuple[Reject, ...]
    """Rows that no key leads to; see `by_key`."""


def index(path: Path) -> Index:
    """The rows of a TSV by the key in their first column.

    Where X.lineidx lies beside X.tsv and agrees with it, the file is not searched for line ends; where imageid2idx.json
    does so too, its keys are not read.

    Raises:
        DataError: the file is empty, or no row has a key.
    """
    lines = Lines(path)
    starts = _listed_starts(path, lines)
    keys = None if starts is None else _listed_keys(path, lines, starts)
    if starts is not None and keys is not None:
        return Index(lines, dict(zip(keys, starts, strict=True)), ())
    keyed = ((lines.key(start), start) for start in (lines.starts() if starts is None else starts))
    rows = ((None if not key and lines.is_blank(start) else key, start) for key, start in keyed)
    places, rejects = by_key(path, rows)
    if not places:
        raise DataError(f"{path} has no row that a key leads to" + (f": {rejects[0].reason}" if rejects else ""))
    if lines.torn() and not lines.is_last(next(reversed(places.values()))):
        rejects = rejects[:-1]  # a download broke off in this row, maybe in its key; see `without_torn_row`
    return Index(lines, places, rejects)


def _listed_starts(path: Path, lines: Lines) -> list[int] | None:
    """The offsets in X.lineidx; None where there is none, or where it is of another file."""
    file = path.with_suffix(".lineidx")
    if not file.is_file():
        return None
    try:
        starts = [int(line) for line in file.read_bytes().split()]
    except ValueError:
        return None
    rising = starts and starts[0] == 0 and all(one < other for one, other in itertools.pairwise(starts))
    if not rising or not lines.is_last(starts[-1]):
        return None
    rows = [*itertools.pairwise(starts)]  # of which some are looked at: to see all would be the pass that is spared
    return starts if all(lines.ends(start, stop) for start, stop in _some(rows)) else None


def _listed_keys(path: Path, lines: Lines, starts: list[int]) -> list[str] | None:
    """The keys in imageid2idx.json in the order of the rows; None where there are none, or of other rows."""
    file = path.with_name("imageid2idx.json")
    if not file.is_file():
        return None
    try:
        rows = {int(row): key for key, row in json.loads(file.read_bytes()).items()}
        keys = [rows[row] for row in range(len(starts))]
        same = len(rows) == len(keys) and all(
            lines.key(starts[row]) == keys[row].encode() for row in _some(range(len(keys)))
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return keys if same else None


def _some(values: Sequence[T]) -> Sequence[T]:
    """At most CHECKED of them, evenly spread, the last among them."""
    return [*values[:: max(1, -(-len(values) // CHECKED))], *values[-1:]]
