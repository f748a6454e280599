"""A folder of pictures and nothing else: for regions of them, and whatever needs no words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diptych.data.formats.places import files_below, inside, relative_name
from diptych.data.formats.record import PICTURE_SUFFIXES, Record
from diptych.data.rejects import Reject
from diptych.errors import DataError


def sniff(source: Path) -> bool:
    """Whether there is a picture in the folder, however deep; the other formats have had their turn."""
    return source.is_dir() and any(map(_is_picture, files_below(source)))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The pictures by their paths; files that are none by their names are passed over.

    Raises:
        DataError: it is no folder, or has no picture in it.
    """
    if not sniff(source):
        raise DataError(f"{source} is no folder with pictures in it; expected {', '.join(sorted(PICTURE_SUFFIXES))}")
    root = source.resolve()
    for path in filter(_is_picture, files_below(source)):
        key = relative_name(path, source)
        try:
            yield Record(key=key, source=key, image=inside(root, path))
        except DataError as error:
            yield Reject(key, key, str(error))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES
