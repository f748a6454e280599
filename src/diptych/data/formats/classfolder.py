"""A folder of class folders, or of splits with class folders in them: the folder's name is the label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diptych.data.formats.lists import printable
from diptych.data.formats.places import child_folders, files_below, inside, relative_name
from diptych.data.formats.record import PICTURE_SUFFIXES, USUAL_SPLITS, Record, split_name
from diptych.data.rejects import Reject
from diptych.errors import DataError


def sniff(source: Path) -> bool:
    """Whether `source` has class folders, of which one of the first has a picture."""
    return source.is_dir() and any(
        path.suffix.lower() in PICTURE_SUFFIXES
        for _, classes in _splits(source)
        for folder in classes[:8]
        for path in folder.iterdir()
    )


def label_names(source: Path) -> list[str]:
    """The names of the class folders of all splits, sorted; a label is a place in this list."""
    return sorted({printable(folder.name) for _, classes in _splits(source) for folder in classes})


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The pictures class by class; whatever else lies in a class folder is rejected.

    Raises:
        DataError: there are no class folders.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder; expected one with a folder for each class")
    names = label_names(source)
    if not names:
        raise DataError(f"{source} has no folders in it; expected one for each class, or one for each split")
    root = source.resolve()
    for split, classes in _splits(source):
        for folder in classes:
            name = printable(folder.name)
            for path in files_below(folder):
                yield _record(path, source, root, split, name, names.index(name))


def _record(path: Path, source: Path, root: Path, split: str | None, name: str, label: int) -> Record | Reject:
    key = relative_name(path, source)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return Reject(key, key, f"not a picture by its name ({path.suffix or 'no suffix'})")
    try:
        image = inside(root, path)
    except DataError as error:
        return Reject(key, key, str(error))
    return Record(key=key, source=key, image=image, split=split, label=label, label_name=name)


def _splits(source: Path) -> list[tuple[str | None, list[Path]]]:
    """Splits and their class folders; folders that are all called as splits, with folders in them, are splits."""
    folders = child_folders(source)
    inner = [(folder, child_folders(folder)) for folder in folders]
    if folders and all(folder.name.lower() in USUAL_SPLITS and classes for folder, classes in inner):
        return [(split_name(folder.name), classes) for folder, classes in inner]
    return [(None, folders)]
