"""Record: one row of a source, before its picture is looked at; and what its texts, split and label may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from diptych.data.rejects import Reject
from diptych.errors import DataError

TRAIN = "train"

SPLIT_NAMES = {"val": "validation", "valid": "validation", "dev": "validation", "training": TRAIN, "testing": "test"}
"""Names that mean one of the usual splits; every other name is kept."""

USUAL_SPLITS = frozenset({TRAIN, "validation", "test", *SPLIT_NAMES})

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

MAX_PICTURE_BYTES = 256 << 20
MAX_TEXT_BYTES = 64 << 20
"""Of one line, tar member or JSON value; longer ones are rejected unread."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a source."""

    key: str
    """The source's, else the relative path, else the row number."""
    source: str
    """File and line, row or member it came from, for the list of rejects."""
    image: bytes | Path | None
    """The file's bytes or where they lie; None in a reading that leaves pictures out, and where there are none."""
    texts: tuple[str, ...] = ()
    split: str | None = None
    """None where the source names none."""
    label: int | None = None
    label_name: str | None = None
    group: str | None = None
    spare_key: str | None = None
    """Taken where `key` is a mere file name and another picture has it already."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Own columns of the source."""

    def __post_init__(self) -> None:
        """Raises DataError where a word is no Unicode, as a JSON escape of half a character makes it."""
        for word in (self.key, *self.texts, self.split, self.label_name, self.group):
            try:
                (word or "").encode()
            except UnicodeEncodeError as error:
                raise DataError("it has text that is no Unicode (half of a surrogate pair)") from error


class Reader(Protocol):
    """What every format's `read` is."""

    def __call__(self, source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
        """The rows of `source`, in an order that two readings share.

        Args:
            source: the file or folder named by the user.
            pictures: False leaves out pictures that lie inside the source, so that the reading is quick.

        Raises:
            DataError: the source as a whole cannot be read in this format.
        """


def split_name(name: str) -> str:
    """The table's name of a split: val, valid and dev are validation; any other keeps its own."""
    stripped = name.strip()
    return SPLIT_NAMES.get(stripped.lower(), stripped)


def split_of_file(stem: str) -> str | None:
    """The split that a file's name tells: `train-00000-of-00003`, `flickr_val`, `test`; None where it tells none.

    >>> split_of_file("extra-00000-of-00001"), split_of_file("captions_val2017"), split_of_file("photos")
    ('extra', 'validation', None)
    """
    head, dash, tail = stem.partition("-")
    if dash and tail.replace("-of-", "").split("-")[0].isdigit() and "-of-" in tail:
        return split_name(head)
    words = re.findall(r"[^\W\d_]+", stem.lower())
    return next((split_name(word) for word in words if word in USUAL_SPLITS), None)


def split_of_place(file: Path, root: Path, stem: str) -> str | None:
    """The split that a file's name (`stem`, without endings) tells, else a folder below `root` called as a split."""
    named = split_of_file(stem)
    if named is not None:
        return named
    folders = file.relative_to(root).parts[:-1]
    return next((split_name(folder) for folder in reversed(folders) if folder.lower() in USUAL_SPLITS), None)


def texts_of(value: Any) -> list[str]:
    """The texts in a value as sources hold them: a string, a list, or a list of objects with the text in one field."""
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str):
        text = value.strip()
        return [text] if text else []
    if isinstance(value, Mapping):
        return texts_of(next((value[name] for name in ("raw", "caption", "text", "sentence") if name in value), None))
    if isinstance(value, Sequence):
        return [text for part in value for text in texts_of(part)]
    return texts_of(str(value))


def texts_of_cell(cell: str) -> list[str]:
    """The texts in a cell of a CSV file, which may hold a JSON list of them."""
    if cell.startswith("[") and cell.rstrip().endswith("]"):
        try:
            parts = json.loads(cell)
        except ValueError:
            return texts_of(cell)
        if parts and all(isinstance(part, str) for part in parts):
            return texts_of(parts)
    return texts_of(cell)


def label_of(value: Any) -> tuple[int | None, str | None]:
    """A label as number or as name: 3, "3" and 3.0 are numbers, "pants" is a name, "" and None are neither."""
    if value is None or isinstance(value, bool | list | dict):
        return None, None
    if isinstance(value, float):
        return (int(value), None) if value.is_integer() else (None, None)
    if isinstance(value, int):
        return value, None
    word = str(value).strip()
    if word.isascii() and word.isdigit():
        return int(word), None
    return None, word or None
