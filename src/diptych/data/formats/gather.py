"""Rows of one key as one record: texts of the same picture come together, another picture is refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from diptych.data.formats.record import Record
from diptych.data.formats.spool import Spool
from diptych.data.formats.survey import KeyBook
from diptych.data.rejects import Reject


class Gatherer:
    """Holds the first row of a key until its last has come.

    What is held lies in a nameless file, so that rows of a key may be far apart. Keys of one row, which is most, pass
    through.
    """

    def __init__(self, keys: KeyBook) -> None:
        self._keys = keys
        self._texts = Spool()
        self._held = sqlite3.connect("", isolation_level=None)  # "": a temporary file that SQLite removes
        self._held.execute("CREATE TABLE held (key TEXT PRIMARY KEY, row TEXT, path TEXT, image BLOB, seen INTEGER)")
        self._held.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        self._texts.close()

    def add(self, record: Record) -> Iterator[Record | Reject]:
        """Takes one row; gives what is complete with it."""
        key = self._keys.key(record)
        num_rows = self._keys.rows(key)
        if num_rows <= 1:
            yield replace(record, key=key)
            return
        first = self._first(key)
        if first is None:
            self._hold(key, record)
            seen = 1
        else:
            if _same_picture(first, record):
                self._texts.add(key, list(record.texts))
            else:
                yield _other(key, first, record)
            seen = self._seen(key)
        if seen == num_rows:
            yield self._release(key)

    def _hold(self, key: str, record: Record) -> None:
        path = str(record.image) if isinstance(record.image, Path) else None
        image = record.image if isinstance(record.image, bytes) else None
        row = {**vars(record), "image": None, "key": key}
        self._held.execute("INSERT INTO held VALUES (?, ?, ?, ?, 1)", (key, json.dumps(row), path, image))
        self._texts.add(key, list(record.texts))

    def _first(self, key: str) -> Record | None:
        found = self._held.execute("SELECT row, path, image FROM held WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        row: dict[str, Any] = json.loads(found[0])
        image = found[2] if found[1] is None else Path(found[1])
        return Record(**{**row, "image": image, "texts": tuple(row["texts"])})

    def _seen(self, key: str) -> int:
        self._held.execute("UPDATE held SET seen = seen + 1 WHERE key = ?", (key,))
        return self._held.execute("SELECT seen FROM held WHERE key = ?", (key,)).fetchone()[0]

    def _release(self, key: str) -> Record:
        first = self._first(key)
        assert first is not None
        self._held.execute("DELETE FROM held WHERE key = ?", (key,))
        return replace(first, texts=tuple(text for texts in self._texts.get(key) for text in texts))


def _same_picture(one: Record, other: Record) -> bool:
    if isinstance(one.image, Path) and one.image == other.image:
        return True
    return _bytes_of(one.image) == _bytes_of(other.image)


def _bytes_of(image: bytes | Path | None) -> bytes | None:
    """A picture's bytes; None where it cannot be read, which the check of pictures tells later."""
    if not isinstance(image, Path):
        return image
    try:
        return image.read_bytes()
    except OSError:
        return None


def _other(key: str, first: Record, other: Record) -> Record | Reject:
    """What becomes of another picture under a key that is taken."""
    if other.spare_key is not None:
        return replace(other, key=other.spare_key)
    return Reject(key, other.source, f"the key is that of {first.source}, but the picture is another one")
