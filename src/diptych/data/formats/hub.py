"""Data sets of the library `datasets`: saved on disk by `save_to_disk`, or named as on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.formats.columns import Roles, find_roles
from diptych.data.formats.parquet import narrowed, row_record
from diptych.data.formats.places import Pictures
from diptych.data.formats.record import Record, split_name
from diptych.data.rejects import Reject
from diptych.errors import DataError, neighbour

if TYPE_CHECKING:
    from datasets import Dataset

MARKS = ("dataset_dict.json", "state.json")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?")


def sniff(source: Path) -> bool:
    """Whether `source` is a folder that `save_to_disk` wrote."""
    return any((source / mark).is_file() for mark in MARKS)


def may_be_hub_name(source: str) -> bool:
    """Whether a source that is no path can be a name on the hub: NAME, USER/NAME or USER/NAME:CONFIG."""
    in_a_folder = "/" in source and Path(source).parent.is_dir()
    return HUB_NAME.fullmatch(source) is not None and not Path(source).suffix and not in_a_folder


def label_names(source: Path) -> list[str]:
    """The names of the label's classes, where the data set has them; else none."""
    from datasets import ClassLabel

    for data in _load(source).values():
        label = find_roles(tuple(data.column_names), embedded=True).label
        if label is not None and isinstance(data.features[label], ClassLabel):
            return list(data.features[label].names)
    return []


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of every split.

    Raises:
        DataError: it cannot be loaded, e.g. for want of a network, or has no column of pictures.
    """
    root = source if source.is_dir() else Path()
    for split, data in _load(source).items():
        roles = _roles(data, str(source))
        assert roles.picture is not None
        words = data.select_columns(roles.used(picture=pictures))
        rows = _undecoded(words, roles.picture) if pictures else _with_paths(words, data, roles.picture)
        for number, row in enumerate(rows):
            yield row_record(
                row,
                roles,
                Pictures(root),
                number=number,
                name=str(split),
                split=split_name(str(split)),
                pictures=pictures,
            )


def _load(source: Path) -> dict[str, Dataset]:
    from datasets import Dataset, load_dataset, load_from_disk

    try:
        if source.exists():
            found = load_from_disk(str(source))
        else:
            name, _, config = source.as_posix().partition(":")
            found = load_dataset(name, config or None)
    except Exception as error:  # of the library, the hub's client or the network, in no common class
        raise DataError(_cannot_load(source, error)) from error
    return {"train": found} if isinstance(found, Dataset) else dict(found)


def _cannot_load(source: Path, error: Exception) -> str:
    why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    if source.exists():
        return f"{source} cannot be loaded as a data set of the library `datasets` ({why})"
    return (
        f"there is nothing at {source}{neighbour(source) or '.'} No data set of that name could be had from the "
        f"Hugging Face hub ({why}). "
        "Check the path, or the name (USER/NAME or USER/NAME:CONFIG) and the network; where there is none, download "
        "it elsewhere, `save_to_disk(FOLDER)` it, and import FOLDER"
    )


def _roles(data: Dataset, name: str) -> Roles:
    from datasets import Image

    roles = find_roles(tuple(data.column_names), embedded=True)
    if roles.picture is None:
        pictures = [column for column, feature in data.features.items() if isinstance(feature, Image)]
        hint = f" (the pictures are in {pictures[0]!r}: rename_column it to 'image')" if pictures else ""
        raise DataError(f"{name} has no column image{hint}; its columns are {', '.join(data.column_names)}")
    return narrowed(roles, data.features.arrow_schema)


def _undecoded(data: Dataset, picture: str) -> Dataset:
    """The same with pictures as {bytes, path}."""
    from datasets import Image

    feature: Any = data.features[picture]
    return data.cast_column(picture, Image(decode=False)) if isinstance(feature, Image) else data


def _with_paths(words: Dataset, data: Dataset, picture: str) -> Iterator[dict[str, Any]]:
    """The rows of `words`, with no more of each picture than its file name, which is a key."""
    return ({**row, picture: value} for row, value in zip(words, _paths(data, picture), strict=True))


def _paths(data: Dataset, picture: str) -> Iterator[Any]:
    """The pictures as {path}, or as the paths they are; bytes stay unread."""
    for batch in data.select_columns([picture]).with_format("arrow").iter(batch_size=1000):
        column = batch[picture]
        if pa.types.is_struct(column.type):
            yield from ({"path": path} for path in pc.struct_field(column, "path").to_pylist())
        elif pa.types.is_string(column.type):
            yield from column.to_pylist()
        else:
            yield from [None] * len(column)
