"""A first, quick reading of a source, without its pictures: what columns, labels and repeated keys it has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from diptych.data.formats.record import Record
from diptych.data.formats.types import ColumnTypes
from diptych.data.rejects import Reject
from diptych.data.sample import hash64
from diptych.progress import SILENT, Progress

MAX_LABELS = 1 << 20


class KeyBook:
    """How many rows each key has, and the key of each path, in a nameless file."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # "": a temporary file that SQLite removes
        self._db.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, rows INTEGER) WITHOUT ROWID")
        self._db.execute("CREATE TABLE paths (path TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._repeats = self._renames = False
        """Whether any key has several rows, or any path several keys; most sources need no look into the file."""

    def note(self, record: Record) -> None:
        """Counts one row; the first row of a path gives the path its key."""
        key = record.key
        if isinstance(record.image, Path):
            self._db.execute("INSERT OR IGNORE INTO paths VALUES (?, ?)", (_stored(record.image), key))
            key = self._key_of_path(record.image) or key
            self._renames = self._renames or key != record.key
        new = self._db.execute("INSERT OR IGNORE INTO keys VALUES (?, 1)", (key,)).rowcount
        if not new:
            self._db.execute("UPDATE keys SET rows = rows + 1 WHERE key = ?", (key,))
            self._repeats = True

    def key(self, record: Record) -> str:
        """The record's key, or that of the row that named the same path first."""
        if self._renames and isinstance(record.image, Path):
            return self._key_of_path(record.image) or record.key
        return record.key

    def rows(self, key: str) -> int:
        """How many rows have this key."""
        if not self._repeats:
            return 1
        found = self._db.execute("SELECT rows FROM keys WHERE key = ?", (key,)).fetchone()
        return 0 if found is None else found[0]

    def close(self) -> None:
        """Lets go of the file."""
        self._db.close()

    def _key_of_path(self, path: Path) -> str | None:
        found = self._db.execute("SELECT key FROM paths WHERE path = ?", (_stored(path),)).fetchone()
        return None if found is None else found[0]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first reading found."""

    rows: int
    """Records and rejects together."""
    embedded: bool
    """Whether any picture lies inside the source, and not in a file of its own."""
    splits: bool
    """Whether any row's split is named."""
    places: tuple[float, float]
    """The least and the greatest `place_of` of the rows' groups."""
    keys: KeyBook
    types: ColumnTypes
    label_names: Sequence[str]
    """Names of the labels 0, 1, ...; empty where the source has none."""
    number_by_name: dict[str, int]
    """The label of each name, where rows give names alone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keys.close()

    def label(self, record: Record) -> int | None:
        """The label of a record, by its number or its name."""
        if record.label is not None or record.label_name is None:
            return record.label
        return self.number_by_name.get(record.label_name)


def place_of(group: str) -> float:
    """Where in [0, 1) a group, or a key without one, stands by its hash: rows below a share are that share of all."""
    return (hash64(group) % (1 << 64)) / (1 << 64)


def survey(records: Iterable[Record | Reject], names: Sequence[str], progress: Progress = SILENT) -> Survey:
    """Reads every row once.

    Args:
        records: of a reading without pictures.
        names: of the labels, where the source lists them apart from its rows.
        progress: sees the rows go by.
    """
    keys, types, seen, rows, embedded = KeyBook(), ColumnTypes(), _Labels(), 0, False
    splits, least, most = False, 1.0, 0.0
    with progress.bar("Looking through", None, "rows") as bar:
        for record in records:
            rows += 1
            if isinstance(record, Record):
                keys.note(record)
                types.see(record.fields)
                seen.see(record)
                embedded = embedded or not isinstance(record.image, Path)
                splits = splits or record.split is not None
                place = place_of(record.group or keys.key(record))
                least, most = min(least, place), max(most, place)
            bar.advance()
    found = list(names) or seen.names()
    number_by_name = {name: number for number, name in reversed(list(enumerate(found)))}
    return Survey(
        rows=rows,
        embedded=embedded,
        splits=splits,
        places=(least, most),
        keys=keys,
        types=types,
        label_names=found,
        number_by_name=number_by_name,
    )


class _Labels:
    """Labels and their names as the rows give them."""

    def __init__(self) -> None:
        self._by_number: dict[int, str] = {}
        self._names: set[str] = set()

    def see(self, record: Record) -> None:
        if record.label_name is None or len(self._names) >= MAX_LABELS:
            return
        self._names.add(record.label_name)
        if record.label is not None and 0 <= record.label < MAX_LABELS:
            self._by_number.setdefault(record.label, record.label_name)

    def names(self) -> list[str]:
        """By number where rows give numbers ("" for those that no row names), else sorted."""
        if not self._by_number:
            return sorted(self._names)
        return [self._by_number.get(number, "") for number in range(max(self._by_number) + 1)]


def _stored(path: Path) -> bytes:
    return str(path).encode("utf-8", "surrogateescape")
