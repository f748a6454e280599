"""Lists of names that people write: the classes of a task, a detector's vocabulary, words for regions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from diptych.errors import DataError


def read_word_list(file: Path) -> tuple[tuple[str, ...], ...]:
    """The names of each class, in the order of their labels.

    A text file has one class a line. A JSON file is a list; a class with several names is a list in it, as
    ["angry", ["happy", "smiling"]].

    Raises:
        DataError: the file is missing, empty or of another form, or a line between others is empty.
    """
    if file.suffix != ".json":
        names: list[object] = list(_named_lines(file))
    else:
        try:
            names = json.loads("\n".join(read_lines(file)))
        except json.JSONDecodeError as error:
            raise DataError(f"{file} is not JSON: {error}") from error
    classes = [(name,) if isinstance(name, str) else name for name in names] if isinstance(names, list) else []
    if not classes or not all(_is_texts(one) for one in classes):
        raise DataError(f'{file} is not a list of class names; expected one a line, or JSON as ["cat", "dog"]')
    return tuple(tuple(str(name) for name in one) for one in classes)  # type: ignore[attr-defined]


def read_vocabulary(file: Path) -> tuple[str, ...]:
    """The class or attribute names of a detector in the order of their ids, without background: one each, lower case.

    As in Visual Genome's files, a line may hold several with commas between them, of which the first counts.

    Raises:
        DataError: as `read_word_list`, or a name is empty.
    """
    names = tuple(names[0].split(",")[0].strip().lower() for names in read_word_list(file))
    if "" in names:
        raise DataError(f"{file}: class {names.index('')} has no name before its comma")
    return names


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, without white space around them.

    Raises:
        DataError: there is none, or it is no UTF-8.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error


def _named_lines(file: Path) -> list[str]:
    """All lines but empty ones at the end; one in the middle would leave it open which labels come after it."""
    lines = read_lines(file)
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise DataError(f"{file}: line {lines.index('') + 1} has no name; expected one a line, in the order of labels")
    return lines


def _is_texts(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) > 0 and all(isinstance(one, str) and one for one in value)
