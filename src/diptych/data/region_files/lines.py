"""Rows of a TSV by byte offset: no quoting, no header, rows of a megabyte; only the index is held in memory."""

from __future__ import annotations

import base64
import binascii
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diptych.errors import DataError


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

    def ends_whole(self) -> bool:
        """Whether the last row has its line end."""
        return self._map[-1:] == b"\n"

    def check_first(self) -> None:
        """Refuses a file that ends in its first row, whose numbers may be any part of those that were sent.

        Raises:
            DataError: telling so.
        """
        if self._map.find(b"\n") < 0:
            raise DataError(f"{self._path} ends within its first row: no whole row, or one without its line end")

    def key(self, start: int) -> str:
        """The first column of the row at `start`."""
        end = self._map.find(b"\t", start, start + 4096)
        line = self._map.find(b"\n", start, start + 4096)
        end = max(end, -1) if line < 0 or -1 < end < line else line
        return self._map[start : end if end >= 0 else min(start + 4096, self._size)].decode().strip()

    def columns(self, start: int) -> list[bytes]:
        """All columns of the row at `start`.

        Raises:
            ValueError: the file was cut short since it was mapped.
        """
        if self._path.stat().st_size < self._size:
            raise ValueError("the file was cut short while it was open")
        end = self._map.find(b"\n", start)
        return [cell.strip() for cell in self._map[start : end if end >= 0 else self._size].split(b"\t")]


def array(cell: bytes, dtype: str, rows: int, width: int | None = None) -> np.ndarray:
    """A base64 cell as (rows, width), or as (rows,) of plain numbers.

    Args:
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
        raise ValueError(f"a column is no base64: {error}") from error
    size = np.dtype(dtype).itemsize * rows
    if width == 0 and size and len(data) % size == 0:
        width = len(data) // size
    if len(data) != size * (1 if width is None else width):
        raise ValueError(f"{len(data):,} bytes in a column; expected {rows} rows of {width or 'some'} numbers")
    found = np.frombuffer(data, dtype)
    return found if width is None else found.reshape(rows, width)


def index(path: Path) -> tuple[Lines, dict[str, int]]:
    """The rows of a TSV by the key in their first column.

    Raises:
        DataError: a key comes twice.
    """
    lines = Lines(path)
    places: dict[str, int] = {}
    for start in lines.starts():
        try:
            key = lines.key(start)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text at byte {start:,}") from error
        if key in places:
            raise DataError(f"{path} has two rows of {key!r}; remove one of them")
        if key:
            places[key] = start
    return lines, places
