"""Which rows of old files go by a key, and which by none: the latter cost themselves, and never the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from diptych.data.rejects import Reject

Place = TypeVar("Place")


def by_key(path: Path, rows: Iterable[tuple[bytes | None, Place]]) -> tuple[dict[str, Place], tuple[Reject, ...]]:
    """Where the row of each key is, the first where a key comes twice; and a reject for every row that is left over.

    Args:
        path: the file or folder, for the rejects.
        rows: keys as they stand there, and places; None: a blank row, which only counts.
    """
    places: dict[str, Place] = {}
    rejects = []
    for number, (raw, place) in enumerate(rows, start=1):
        if raw is None:
            continue
        key = raw.decode(errors="backslashreplace")
        if not raw:
            why = "it has no key"
        elif key.encode() != raw:
            why = "its key is no UTF-8 text"
        elif key in places:
            why = "its key came before, and the first of its rows is kept"
        else:
            places[key] = place
            continue
        rejects.append(Reject(key, f"{path}, row {number:,}", why))
    return places, tuple(rejects)
