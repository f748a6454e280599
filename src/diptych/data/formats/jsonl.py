"""JSON lines, or one JSON list: an object a picture or a text, with a path and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from diptych.data.formats.columns import find_roles
from diptych.data.formats.json_stream import top_level
from diptych.data.formats.lists import row_record
from diptych.data.formats.places import Pictures
from diptych.data.formats.record import MAX_TEXT_BYTES, Record, split_of_file
from diptych.data.rejects import Reject
from diptych.errors import DataError

SUFFIXES = frozenset({".jsonl", ".ndjson"})


def sniff(source: Path) -> bool:
    """Whether `source` is such a list, or a folder with lists of this kind."""
    if source.is_file():
        return source.suffix.lower() in SUFFIXES or (source.suffix.lower() == ".json" and _is_list(source))
    return bool(_lists(source))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of a list, or of the lists in a folder; several lists are splits by their names.

    Raises:
        DataError: there is no list.
    """
    files = [source] if source.is_file() else _lists(source)
    if not files:
        raise DataError(f"{source} has no .jsonl file; name the list itself, or another --format")
    root = source.parent if source.is_file() else source
    for file in files:
        split = split_of_file(file.stem)
        yield from read_jsonl(file, Pictures(root, split=split), split=split)


def read_jsonl(file: Path, pictures: Pictures, *, split: str | None) -> Iterator[Record | Reject]:
    """The rows of one file; a line that is no JSON object costs itself."""
    rows = _list_rows(file) if file.suffix.lower() == ".json" else line_rows(file)
    for number, row in rows:
        source = f"{file.name} line {number}"
        if isinstance(row, str):
            yield Reject(f"line {number}", source, row)
        else:
            yield row_record(row, pictures, number=number, source=source, split=split)


def line_rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and object of each line of a file of JSON lines, or number and what is wrong with it."""
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_TEXT_BYTES):
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.endswith(b"\n") and _skip_line(lines):
                yield number, f"longer than {MAX_TEXT_BYTES >> 20} MiB"
            elif line.strip():
                yield number, _parsed(line)


def _skip_line(lines: BinaryIO) -> bool:
    """Reads to the end of a line that was cut; False at the end of the file."""
    skipped = False
    while rest := lines.readline(1 << 20):
        skipped = True
        if rest.endswith(b"\n"):
            break
    return skipped


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start} of the line)"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"expected a JSON object, found {type(row).__name__}"


def _list_rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, (_, row) in enumerate(top_level(file), start=1):
        yield number, row if isinstance(row, dict) else f"expected a JSON object, found {type(row).__name__}"


def _lists(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _is_list(file: Path) -> bool:
    """Whether a .json file holds a list of objects that name pictures."""
    try:
        where, row = next(iter(top_level(file)), ("", None))
    except DataError:
        return False
    return where == "" and isinstance(row, dict) and find_roles(tuple(row)).picture is not None
