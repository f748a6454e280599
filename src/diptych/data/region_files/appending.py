"""Rows appended to one TSV or to several in step; what a kill left of them is kept, and a torn row is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from diptych.data.durable import write_whole
from diptych.data.region_files.lines import Lines

FLUSH_EVERY = 64
"""Pictures between two waits for the disk."""


def append(rows: Callable[[Container[str]], Iterator[tuple[str, list[bytes]]]], files: Sequence[Path]) -> None:
    """Writes one row a picture to each file; those of an earlier attempt stay.

    Args:
        rows: gives for the keys that are there already all others, each with a row for every file.
        files: new, or of an earlier attempt.
    """
    done = min(map(_whole_rows, files))
    there = set(_keys(files[0], done))
    handles = [_opened_behind(path, done) for path in files]
    try:
        for number, (_, row) in enumerate(rows(there)):
            for handle, part in zip(handles, row, strict=True):
                handle.write(part)
            if number % FLUSH_EVERY == FLUSH_EVERY - 1:
                _flush(handles)
        _flush(handles)
    finally:
        for handle in handles:
            handle.close()


def write_lists(files: Sequence[Path]) -> None:
    """Writes what lies beside Oscar's files: X.lineidx, the offsets of the rows, and imageid2idx.json, their keys."""
    for file in files:
        starts = Lines(file).starts()
        write_whole(file.with_suffix(".lineidx"), "".join(f"{start}\n" for start in starts).encode())
    keys = _keys(files[0], _whole_rows(files[0]))
    write_whole(files[0].with_name("imageid2idx.json"), json.dumps({key: row for row, key in enumerate(keys)}).encode())


def _keys(path: Path, rows: int) -> list[str]:
    """Those of the first `rows` rows of a file."""
    if not rows:
        return []
    lines = Lines(path)
    return [lines.key(start).decode() for start in islice(lines.starts(), rows)]


def _whole_rows(path: Path) -> int:
    if not path.is_file() or not path.stat().st_size:
        return 0
    lines = Lines(path)
    return sum(1 for _ in lines.starts()) - (not lines.ends_whole())


def _opened_behind(path: Path, rows: int) -> BinaryIO:
    """The file, cut behind its first `rows` rows."""
    handle = path.open("ab")
    size = 0
    if rows:
        starts = [*Lines(path).starts(), path.stat().st_size]
        size = starts[rows]
    handle.truncate(size)
    return handle


def _flush(handles: Sequence[BinaryIO]) -> None:
    for handle in handles:
        handle.flush()
        os.fsync(handle.fileno())
