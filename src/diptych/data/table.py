"""Tables: folders of Arrow shards, checked when opened, read row by row from mapped files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache, reduce
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from diptych.data import layout, shards
from diptych.data.index import KeyIndex
from diptych.data.layout import Layout, SplitFiles
from diptych.data.sample import Sample
from diptych.data.shards import Shard
from diptych.errors import DataError, unknown

CHECKSUM_LIMIT = 1 << 30
"""Tables up to this many bytes have every byte compared with its SHA-256 when opened (1.5 GB/s); see `Table.verify`."""

PICTURE_KEY = "picture_key"
"""The own column of a table of examples that says which picture or pictures a row is about: what is joined is found by
it, one value for each of a list."""

PARTNERS = "partners"
"""The column of a joined store that names, by their keys, the rows that may be a row's partners."""

OPEN_SHARDS = 256
"""Shards a reader keeps mapped; each holds a file handle."""


def open_table(path: Path) -> Table:
    """The table in folder `path`, checked so that reading it later cannot crash the process.

    Every shard's offsets and texts are validated, and sizes and row counts compared with `table.json`; where the table
    is no larger than CHECKSUM_LIMIT, so is the SHA-256 of every file, which also sees damage inside pictures.

    Raises:
        DataError: the folder is no table, a file of it is damaged, or a newer diptych wrote it.
    """
    content = layout.read_layout(path)
    size = sum(part.bytes for split in content.splits.values() for part in split.shards)
    return Table(path, content, check_files(path, content, checksum=size <= CHECKSUM_LIMIT))


def check_pictures(*splits: Rows) -> None:
    """Sees that there is a picture in the splits of a table, where pictures are wanted.

    Raises:
        DataError: it is a store of what was made of pictures, a table of examples, or one of texts whose pictures are
            known by their regions alone.
    """
    if any(rows.num_pictures for rows in splits):
        return
    path, columns = splits[0].path, splits[0].columns
    expected = "expected the table of the pictures themselves"
    if "image" not in columns:
        raise DataError(
            f"{path} is a store of what was made of pictures; {expected}, as `diptych data import` makes it"
        )
    if PICTURE_KEY in columns:
        raise DataError(
            f"{path} is a table of examples: its column {PICTURE_KEY!r} says which pictures they are about, and these "
            f"lie elsewhere; {expected}. Regions that are made of that one serve the examples too"
        )
    num = sum(map(len, splits))
    raise DataError(
        f"{path} has no pictures: none of the {num:,} rows of {', '.join(rows.name for rows in splits)} holds one; "
        f"{expected}, as `diptych data import` makes it. Models that read regions need none where these are at hand: "
        "--regions REGIONS"
    )


def check_files(path: Path, content: Layout, *, checksum: bool) -> pa.Schema:
    """Checks every shard and index; returns the schema that all shards share.

    Raises:
        DataError: naming the file and what is wrong.
    """
    for split in content.splits.values():
        for part in (*split.shards, split.index):
            shards.check_size(path / part.file, part)
            if checksum:
                shards.check_sum(path / part.file, part)
    schema: pa.Schema | None = None
    for split in content.splits.values():
        for part in split.shards:
            shard = Shard(path / part.file, part)
            shard.check(part, schema)
            schema = shard.schema
    if schema is None:
        raise DataError(f"{path} has no splits; import it again")
    return schema


class Store(Protocol):
    """What can be joined to the rows of a table: values by key. Pickled as a path."""

    @property
    def path(self) -> Path:
        """Where it lies, for messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What a sample may ask for."""

    def stored(self, key: str, column: str) -> Any:
        """The value of one row.

        Raises:
            DataError: there is no row of this key.
        """


class Table:
    """A folder of rows in named splits."""

    def __init__(self, path: Path, content: Layout, schema: pa.Schema) -> None:
        """Use `open_table`, which checks the files first."""
        self.path = path
        self.kind = content.kind
        self.fingerprint = content.fingerprint
        """Of the content; equal tables have equal ones wherever they lie."""
        self.meta: Mapping[str, Any] = content.meta
        """What the importer noted, e.g. "label_names"."""
        self.source = content.source
        self.columns: Mapping[str, pa.DataType] = {field.name: field.type for field in schema}
        self.splits: Mapping[str, int] = {name: split.rows for name, split in content.splits.items()}
        """Rows by split."""
        self._content = content
        self.stores: tuple[Store, ...] = ()
        """What was joined."""

    @property
    def parts(self) -> tuple[Table, ...]:
        """The tables that are mixed; itself, where none are."""
        return (self,)

    def joined(self, store: Store) -> Table:
        """The same table, whose rows may also ask for the columns of `store`; see `join`."""
        table = copy(self)
        table.stores = (*self.stores, store)
        return table

    def split(self, name: str) -> Rows:
        """The rows of one split, with what was joined.

        Raises:
            DataError: there is no such split; the nearest name is told. Or a column comes twice.
        """
        if name not in self.splits:
            raise DataError(f"{self.path}: {unknown('split', name, self.splits)}")
        rows = Rows(self.path, name, self._content.splits[name], self.fingerprint, tuple(self.columns))
        return reduce(join, self.stores, rows)

    def verify(self) -> None:
        """Compares every byte with its SHA-256, whatever the table's size.

        Raises:
            DataError: naming the first file that differs.
        """
        check_files(self.path, self._content, checksum=True)


class Rows:
    """One split of a table, read from mapped files. Pickled as a path, so that workers map the files themselves."""

    def __init__(
        self,
        path: Path,
        name: str,
        files: SplitFiles,
        fingerprint: str,
        columns: tuple[str, ...],
        stores: tuple[Store, ...] = (),
    ) -> None:
        self.path = path
        self.name = name
        self.fingerprint = fingerprint
        self.columns = columns
        self._files = files
        self.stores = stores
        self._open()

    def _open(self) -> None:
        self._ends = list(accumulate(part.rows for part in self._files.shards))
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)
        self._index: KeyIndex | None = None

    def _open_shard(self, number: int) -> Shard:
        part = self._files.shards[number]
        return Shard(self.path / part.file, part)

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self.path, self.name, self._files, self.fingerprint, self.columns, self.stores)

    def __len__(self) -> int:
        return self._files.rows

    @property
    def parts(self) -> tuple[Rows, ...]:
        """The rows of each table that is mixed; themselves, where none are."""
        return (self,)

    def partners(self, row: int, choose: Callable[[int, int], Sequence[int]]) -> list[int]:
        """Other rows of the same table: those that a joined store names in its column "partners", or any.

        Args:
            row: 0 to len - 1.
            choose: from the row and the number of its others, the places of those that are taken.
        """
        named = self._stored(self.key(row), PARTNERS) if any(PARTNERS in store.columns for store in self.stores) else ()
        if named:
            found = self.find([named[place] for place in choose(row, len(named))])
            return [other for other in found if other is not None]
        return [(row + 1 + place) % len(self) for place in choose(row, len(self) - 1)]

    def where(self, row: int) -> str:
        """Where a row lies, for messages."""
        return f"{self.path} {self.name}, row {row}"

    def sample(self, row: int, columns: Sequence[str] = ()) -> Sample:
        """One row, undecoded.

        Args:
            row: 0 to len - 1.
            columns: own columns wanted as `fields`, of this table or of a joined store.

        Raises:
            DataError: there is no such column, or a store has no row of this key.
        """
        own = [name for name in columns if name in self.columns]
        values = self._values(row, [*layout.PICTURE_COLUMNS, *own])
        key, group, image, image_path, texts, label = values[:6]
        fields = dict(zip(own, values[6:], strict=True))
        joined = [name for name in columns if name not in self.columns]
        if joined:
            about = self._values(row, [PICTURE_KEY])[0] if PICTURE_KEY in self.columns else key
            if about is None:
                raise DataError(f"{key} names no picture in the column {PICTURE_KEY!r}, by which {joined[0]} are found")
            fields |= {name: self._stored_of(about, name) for name in joined}
        return Sample(
            key=key,
            group=group,
            image=image if image_path is None else self.path / image_path,
            texts=tuple(texts),
            label=label,
            fields=fields,
        )

    @property
    def num_pictures(self) -> int:
        """Rows that hold a picture or say where it lies; 0 of a store."""
        there = [self.column(name) for name in ("image", "image_path") if name in self.columns]
        return sum(len(column) - column.null_count for column in there)

    def values(self, row: int, columns: Sequence[str]) -> list[Any]:
        """The values of some columns of one row.

        Raises:
            DataError: there is no such column.
        """
        self._check_columns(columns)
        return self._values(row, columns)

    def arrays(self, row: int, columns: Sequence[str]) -> list[np.ndarray | None]:
        """The values of one row in `ragged` columns, as read-only views of the mapped file: nothing is copied.

        Raises:
            DataError: there is no such column, or the file is damaged.
        """
        self._check_columns(columns)
        shard, place = self._place(row)
        return shard.arrays(place, columns)

    def key(self, row: int) -> str:
        """The key of one row."""
        return self.values(row, ["key"])[0]

    def find(self, keys: Sequence[str]) -> list[int | None]:
        """The row of each key, None where the split has none."""
        if self._index is None:
            self._index = KeyIndex(self.path / self._files.index.file, len(self))
        found = self._index.candidates(keys)
        return [
            next((row for row in rows if self.key(row) == key), None) for key, rows in zip(keys, found, strict=True)
        ]

    def stored(self, key: str, column: str) -> Any:
        """The value of the row of one key, where these rows are a store.

        Raises:
            DataError: there is no row of this key.
        """
        row = self.find([key])[0]
        if row is None:
            raise DataError(f"the store {self.path} has no row of key {key!r}; prepare it for this table again")
        return self.values(row, [column])[0]

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column, mapped.

        Raises:
            DataError: there is no such column.
        """
        self._check_columns([name])
        return pa.chunked_array(
            [array for number in range(len(self._ends)) for array in self._shard(number).column(name)]
        )

    def texts(self) -> Iterator[str]:
        """Every text of the split, row by row."""
        for number in range(len(self._ends)):
            for array in self._shard(number).column("texts"):
                for texts in array:
                    yield from texts.as_py()

    def _values(self, row: int, columns: Sequence[str]) -> list[Any]:
        shard, place = self._place(row)
        return shard.values(place, columns)

    def _place(self, row: int) -> tuple[Shard, int]:
        """The shard that holds a row, and which of its rows it is."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path} {self.name}, which has {len(self)}")
        number = bisect_right(self._ends, row)
        return self._shard(number), row - self._ends[number] + self._files.shards[number].rows

    def _stored_of(self, about: str | list[str], column: str) -> Any:
        return (
            self._stored(about, column) if isinstance(about, str) else tuple(self._stored(key, column) for key in about)
        )

    def _stored(self, key: str, column: str) -> Any:
        for store in self.stores:
            if column in store.columns:
                return store.stored(key, column)
        raise DataError(f"{self.path}: {unknown('column', column, self.all_columns)}")

    def _check_columns(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in self.columns:
                raise DataError(f"{self.path}: {unknown('column', name, self.columns)}")

    @property
    def all_columns(self) -> list[str]:
        """Own ones, and those of what was joined."""
        return [*self.columns, *(name for store in self.stores for name in store.columns if name != "key")]


def join(rows: Rows, store: Store) -> Rows:
    """The same rows, whose samples may also ask for the columns of `store`, found by key; nothing is copied.

    Raises:
        DataError: both have an own column of the same name.
    """
    taken = sorted((set(rows.all_columns) & set(store.columns)) - {"key"})
    if taken:
        raise DataError(f"{store.path} and {rows.path} both have the column {', '.join(taken)}; rename one of them")
    return Rows(rows.path, rows.name, rows._files, rows.fingerprint, rows.columns, (*rows.stores, store))
