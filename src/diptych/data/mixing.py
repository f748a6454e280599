"""Several tables as one to train on: their rows stand one behind the other, and each knows which table it is of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.region_join import check_same_regions
from diptych.data.sample import Sample
from diptych.data.table import Rows, Store, Table
from diptych.errors import DataError

NAMES = ("key", "group")
"""Columns that say which row it is, within its table."""


def mix_tables(tables: Sequence[Table]) -> Table:
    """Several tables as one; one alone stays as it is.

    Raises:
        DataError: tables of pictures are mixed with stores, or their regions are not made alike.
    """
    return tables[0] if len(tables) == 1 else MixedTable(tables)


class MixedTable(Table):
    """Several tables as one. It has no files of its own: whatever reads asks its parts."""

    def __init__(self, tables: Sequence[Table]) -> None:
        first = tables[0]
        for other in tables[1:]:
            if other.kind != first.kind:
                raise DataError(
                    f"{first.path} holds {first.kind} and {other.path} a {other.kind}; expected tables of one kind"
                )
        check_same_regions(tables)
        self._parts = tuple(tables)
        self.path = _joined_path(tables)
        self.kind = first.kind
        self.fingerprint = "+".join(one.fingerprint for one in tables)
        self.meta = _shared([one.meta for one in tables])
        self.source = ", ".join(one.source for one in tables)
        self.columns = _shared([one.columns for one in tables])
        self.stores = first.stores
        self.splits = {
            name: sum(one.splits[name] for one in tables)
            for name in first.splits
            if all(name in one.splits for one in tables)
        }

    @property
    def parts(self) -> tuple[Table, ...]:
        """The tables."""
        return self._parts

    def joined(self, store: Store) -> Table:
        """The same, with `store` joined to each of them."""
        return MixedTable([one.joined(store) for one in self._parts])

    def split(self, name: str) -> Rows:
        """The rows of that split of all tables.

        Raises:
            DataError: one of them has none.
        """
        return MixedRows([one.split(name) for one in self._parts], tuple(self.columns))

    def verify(self) -> None:
        """Compares every byte of all tables with its SHA-256."""
        for one in self._parts:
            one.verify()


class MixedRows(Rows):
    """Rows of several tables as one: those of the first, then those of the second, and so on.

    Keys and groups are unique within a table, so here the table's place stands before them: "2:4711.jpg".
    """

    def __init__(self, parts: Sequence[Rows], columns: tuple[str, ...]) -> None:
        first = parts[0]
        self._parts = tuple(parts)
        self._starts = list(accumulate(map(len, parts), initial=0))
        self.path = _joined_path(parts)
        self.name = first.name
        self.fingerprint = "+".join(one.fingerprint for one in parts)
        self.columns = columns
        self.stores = first.stores

    def __reduce__(self) -> tuple[Any, ...]:
        return MixedRows, (self._parts, self.columns)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def parts(self) -> tuple[Rows, ...]:
        """The rows of each table."""
        return self._parts

    def partners(self, row: int, choose: Callable[[int, int], Sequence[int]]) -> list[int]:
        """Other rows of the row's own table."""
        place, own = self._own(row)
        return [self._starts[place] + other for other in self._parts[place].partners(own, choose)]

    def where(self, row: int) -> str:
        """Where a row lies, for messages."""
        place, own = self._own(row)
        return self._parts[place].where(own)

    def sample(self, row: int, columns: Sequence[str] = ()) -> Sample:
        """One row, undecoded, with what its own table or a store that is joined to it has in `columns`."""
        place, own = self._own(row)
        found = self._parts[place].sample(own, columns)
        return replace(found, key=_called(place, found.key), group=_called(place, found.group))

    def values(self, row: int, columns: Sequence[str]) -> list[Any]:
        """The values of some columns of one row."""
        place, own = self._own(row)
        found = self._parts[place].values(own, columns)
        return [_called(place, value) if name in NAMES else value for name, value in zip(columns, found, strict=True)]

    def arrays(self, row: int, columns: Sequence[str]) -> list[np.ndarray | None]:
        """The values of one row in `ragged` columns."""
        place, own = self._own(row)
        return self._parts[place].arrays(own, columns)

    def find(self, keys: Sequence[str]) -> list[int | None]:
        """The row of each key, None where there is none."""
        return [self._find(key) for key in keys]

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column of all tables, mapped; keys and groups are copied.

        Raises:
            DataError: one of them has no such column, or its values are of another type.
        """
        columns = [one.column(name) for one in self._parts]
        if name in NAMES:
            columns = [pc.binary_join_element_wise(_called(place, ""), one, "") for place, one in enumerate(columns)]
        if any(one.type != columns[0].type for one in columns):
            told = ", ".join(f"{one.type} in {part.path}" for one, part in zip(columns, self._parts, strict=True))
            raise DataError(f"the column {name!r} is not the same in all tables: {told}")
        return pa.chunked_array([chunk for one in columns for chunk in one.chunks], type=columns[0].type)

    def texts(self) -> Iterator[str]:
        """Every text of all tables, row by row."""
        return chain.from_iterable(one.texts() for one in self._parts)

    def _place_of(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path} {self.name}, which has {len(self)}")
        return bisect_right(self._starts, row) - 1

    def _own(self, row: int) -> tuple[int, int]:
        """The place of the table that holds a row, and which of its rows it is."""
        place = self._place_of(row)
        return place, row - self._starts[place]

    def _find(self, key: str) -> int | None:
        number, _, own = key.partition(":")
        if number not in [str(place + 1) for place in range(len(self._parts))]:
            return None
        place = int(number) - 1
        (row,) = self._parts[place].find([own])
        return None if row is None else self._starts[place] + row


def _called(place: int, name: str) -> str:
    """What a key or group of the table at `place` is called among several tables."""
    return f"{place + 1}:{name}"


def _joined_path(parts: Sequence[Table] | Sequence[Rows]) -> Path:
    """All their paths, for messages; there is no such file."""
    return Path(" + ".join(str(one.path) for one in parts))


def _shared(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of them say alike."""
    first, *others = mappings
    return {name: value for name, value in first.items() if all(name in one and one[name] == value for one in others)}
