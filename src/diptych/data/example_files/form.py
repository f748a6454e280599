"""What readers of public files share: fields of rows that are checked, and rows that cost only themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.data.examples import Example
from diptych.data.formats.jsonl import line_rows
from diptych.data.formats.record import split_of_file
from diptych.data.rejects import Reject
from diptych.errors import DataError

Found = tuple[str, Example | Reject]
"""A split, and what belongs to it."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The files of a task, as they are published."""

    name: str
    """Of the data set."""
    picture_key: str
    """What a picture is called if nobody says otherwise."""
    fields: Mapping[str, str | int]
    """What may be filled in there, each with a value of its type."""
    most_keys: int = 1
    """Under how many names the regions of one picture may lie."""
    read: Callable[[Path, Sequence[str]], Iterator[Found]]
    """Every row of a file or folder, given what pictures are called."""


def files_of(source: Path, pattern: str, expected: str) -> list[Path]:
    """The file that was named, or those of a folder.

    Raises:
        DataError: the folder has none; `expected` says what is looked for.
    """
    files = [source] if source.is_file() else sorted(source.glob(pattern))
    if not files:
        raise DataError(f"{source} has no file of {expected}")
    return files


def split_of(file: Path) -> str:
    """Told by the file's name; "train" where it tells none."""
    return split_of_file(file.stem) or "train"


def lines_of(
    file: Path, split: str, key: str, examples: Callable[[Mapping[str, Any]], Iterable[Example]]
) -> Iterator[Found]:
    """What `examples` makes of each line of JSON; `key` is the field that rejects are known by."""
    for number, row in line_rows(file):
        where = f"{file}, line {number}"
        if isinstance(row, str):
            yield split, Reject("", where, row)
            continue
        yield from ((split, one) for one in made_of(row, where, key, examples))


def made_of(
    row: Any, where: str, key: str, examples: Callable[[Mapping[str, Any]], Iterable[Example]]
) -> list[Example | Reject]:
    """The examples of a row; of a bad one the reason alone."""
    if not isinstance(row, Mapping):
        return [Reject("", where, f"expected an object, found {short(row)}")]
    try:
        return list(examples(row))
    except DataError as error:
        return [Reject(str(row.get(key, "")), where, str(error))]


def word(row: Mapping[str, Any], name: str) -> str:
    """A field that is a text, or a whole number, as text.

    Raises:
        DataError: it is missing, empty, something else, or no Unicode.
    """
    found = _field(row, name)
    if isinstance(found, bool) or not isinstance(found, str | int) or not str(found).strip():
        raise DataError(f"{name} is {short(found)}; expected a text")
    return unicode_of(str(found), name)


def number(row: Mapping[str, Any], name: str) -> int:
    """A field that is a whole number, also one that is written as text.

    Raises:
        DataError: it is missing, or something else.
    """
    found = _field(row, name)
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise DataError(f"{name} is {short(found)}; expected a whole number")
    return found


def listed(row: Mapping[str, Any], name: str) -> list[Any]:
    """A field that is a list.

    Raises:
        DataError: it is missing, or something else.
    """
    found = _field(row, name)
    if not isinstance(found, list):
        raise DataError(f"{name} is {short(found)}; expected a list")
    return found


def unicode_of(text: str, name: str) -> str:
    """The text itself.

    Raises:
        DataError: it is no Unicode, as a JSON escape of half a character makes it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} is no Unicode (half of a surrogate pair)") from error
    return text


def short(found: Any) -> str:
    """A value in less than a line."""
    text = json.dumps(found, default=repr)
    return text if len(text) < 80 else f"{text[:77]}..."


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise DataError(f"it has no {name}; its fields are: {', '.join(map(str, row)) or 'none'}")
    return row[name]
