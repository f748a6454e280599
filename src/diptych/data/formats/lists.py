"""What lists of path and text share: a row, whatever file it was read from, as a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diptych.data.formats.columns import find_roles, record_of
from diptych.data.formats.places import Pictures, relative_name
from diptych.data.formats.record import PICTURE_SUFFIXES, Record, texts_of
from diptych.data.rejects import Reject
from diptych.errors import DataError


def row_record(
    row: Mapping[str, Any],
    pictures: Pictures,
    *,
    number: int,
    source: str,
    split: str | None,
    texts: Callable[[Any], list[str]] = texts_of,
) -> Record | Reject:
    """The record of a row that names its picture by path, or why it is none.

    Args:
        row: values by column.
        pictures: where the paths lead.
        number: of the line, for rows without path or key.
        source: where the row stands.
        split: of the file that the row is in.
        texts: reads the value of a text column.
    """
    roles = find_roles(tuple(row))
    name = row.get(roles.picture) if roles.picture is not None else None
    if not isinstance(name, str) or not name.strip():
        return Reject(f"line {number}", source, f"names no picture; its columns are: {', '.join(row) or 'none'}")
    name = without_text_number(name.strip())
    source = pictures.prefix + source
    try:
        path = pictures.find(name)
        key = key_of_path(name, path, pictures)
        return record_of(row, roles, image=path, path=key, number=str(number), source=source, split=split, texts=texts)
    except DataError as error:
        return Reject(pictures.prefix + printable(name), source, str(error))


def key_of_path(name: str, path: Path, pictures: Pictures) -> str:
    """The key that a path makes: as the list names it, or relative to the folder where the list is absolute."""
    inner = relative_name(path, pictures.root) if Path(name).is_absolute() else Path(name).as_posix()
    return pictures.prefix + inner


def without_text_number(name: str) -> str:
    """`1.jpg#0`, as lists of texts count them, without its number."""
    head, mark, number = name.rpartition("#")
    return head if mark and number.isdigit() and Path(head).suffix.lower() in PICTURE_SUFFIXES else name


def printable(text: str) -> str:
    """A text that any file can hold: what is no Unicode is shown by U+FFFD."""
    return text.encode("utf-8", "surrogateescape" if is_escaped(text) else "replace").decode("utf-8", "replace")


def is_escaped(text: str) -> bool:
    """Whether all surrogates of a text came from bytes that were no UTF-8."""
    return all(not "\ud800" <= char <= "\udfff" or "\udc80" <= char <= "\udcff" for char in text)
