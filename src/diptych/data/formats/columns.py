"""Which column of a source holds the picture, the texts, the key; and the record that a row makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from diptych.data.formats.objects import objects_of
from diptych.data.formats.record import Record, label_of, split_name, texts_of
from diptych.errors import DataError

PATHS = (
    *("file_name", "filename", "image_path", "filepath", "file_path", "path", "image", "img", "picture"),
    *("image_name", "img_path", "file"),
)
PICTURES = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
TEXTS = (
    *("texts", "captions", "caption", "text", "sentences", "sentence", "comment", "raw", "alt_text", "alt"),
    *("title", "description"),
)
KEYS = ("key", "__key__", "image_id", "img_id", "image_key", "cocoid")
LABELS = ("label", "labels", "class", "class_id", "target")
LABEL_NAMES = ("class_name", "label_name", "label_text")
STANDARD = frozenset({"key", "group", "image", "image_path", "texts", "label"})
"""Columns of a table that no own column may be called."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each column is for; None where the source has none of the kind."""

    picture: str | None
    texts: tuple[str, ...]
    key: str | None
    split: str | None
    label: str | None
    label_name: str | None
    group: str | None
    own: tuple[str, ...]

    def used(self, *, picture: bool = True) -> list[str]:
        """Every column that has a role, with or without that of the pictures."""
        columns = [self.picture if picture else None, *self.texts, self.key, self.split, self.label]
        columns += [self.label_name, self.group, *self.own]
        return [column for column in columns if column is not None]


@lru_cache(maxsize=1024)
def find_roles(columns: tuple[str, ...], *, embedded: bool = False) -> Roles:
    """The roles of columns by their names, whatever their case.

    Args:
        columns: names as the source has them.
        embedded: the pictures are values of a column, so that a column `id` counts as the key too.
    """
    by_name = {name.strip().lower(): name for name in reversed(columns)}

    def first(names: Sequence[str]) -> str | None:
        return next((by_name[name] for name in names if name in by_name), None)

    picture = first((*PICTURES, *PATHS) if embedded else PATHS)
    key = first((*KEYS, "id") if embedded else KEYS)
    text = first(TEXTS)
    texts = (text,) if text is not None else tuple(name for name in columns if _numbered_text(name))
    label, label_name, group, split = first(LABELS), first(LABEL_NAMES), first(("group",)), first(("split",))
    used = {picture, key, split, label, label_name, group, *texts} - {None}
    own = tuple(name for name in columns if name and name not in used and name not in STANDARD)
    return Roles(
        picture=picture,
        texts=texts,
        key=key,
        split=split,
        label=label,
        label_name=label_name,
        group=group,
        own=own,
    )


def _numbered_text(name: str) -> bool:
    """Whether a column is one of several texts: caption_0, text1."""
    return re.fullmatch(r"(caption|text|sentence|description)_?\d+", name.strip().lower()) is not None


def record_of(
    row: Mapping[str, Any],
    roles: Roles,
    *,
    image: bytes | Path | None,
    path: str | None,
    number: str,
    source: str,
    split: str | None,
    texts: Callable[[Any], list[str]] = texts_of,
    spare_key: str | None = None,
) -> Record:
    """The record that a row makes.

    Args:
        row: values by column.
        roles: of its columns.
        image: the picture, already found.
        path: the picture's name in the source; the key where the row gives none.
        number: the key where there is no path either.
        source: where the row stands, for the list of rejects.
        split: of the file that the row is in, where the row names none.
        texts: reads the value of a text column.
        spare_key: see `Record`.

    Raises:
        DataError: a value is of no use, e.g. text that is no UTF-8.
    """
    given = _word(row.get(roles.key)) if roles.key is not None else None
    label, label_name = label_of(row.get(roles.label)) if roles.label is not None else (None, None)
    if roles.label_name is not None:
        label_name = _word(row.get(roles.label_name)) or label_name
    named = _word(row.get(roles.split)) if roles.split is not None else None
    try:
        found = tuple(text for name in roles.texts for text in texts(row.get(name)))
    except UnicodeDecodeError as error:
        raise DataError(f"the text is not UTF-8 ({error.reason} at byte {error.start})") from error
    return Record(
        key=given or path or number,
        source=source,
        image=image,
        texts=found,
        split=split_name(named) if named else split,
        label=label,
        label_name=label_name,
        group=_word(row.get(roles.group)) if roles.group is not None else None,
        spare_key=None if given else spare_key,
        fields={name: _own_value(name, row.get(name)) for name in roles.own},
    )


def _own_value(name: str, value: Any) -> Any:
    """A value of an own column; boxes of the common layouts become objects."""
    if name == "objects":
        found = objects_of(value)
        return value if found is None else found
    return value


def _word(value: Any) -> str | None:
    """A key, split or name as a string; None where it is empty."""
    if value is None or isinstance(value, bytes | list | dict):
        return None
    return str(value).strip() or None
