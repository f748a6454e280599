"""Values by key in a nameless file, for joins that do not grow with memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any


class Spool:
    """Several JSON values for each key, in the order they came. The file vanishes with the process."""

    def __init__(self) -> None:
        # the empty name asks SQLite for a temporary file of its own, written only when its cache is full
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute("CREATE TABLE spool (key TEXT NOT NULL, value TEXT NOT NULL)")
        self._rows.execute("BEGIN")
        self._indexed = False

    def add(self, key: str, value: Any) -> None:
        """Puts one value behind those of `key`."""
        self._rows.execute("INSERT INTO spool VALUES (?, ?)", (key, json.dumps(value)))

    def get(self, key: str) -> Iterator[Any]:
        """The values of `key`."""
        if not self._indexed:
            self._rows.execute("CREATE INDEX IF NOT EXISTS by_key ON spool (key)")
            self._indexed = True
        found = self._rows.execute("SELECT value FROM spool WHERE key = ? ORDER BY rowid", (key,))
        return (json.loads(value) for (value,) in found)

    def close(self) -> None:
        """Lets go of the file."""
        self._rows.close()
