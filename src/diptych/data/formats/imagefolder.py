"""A folder of pictures with `metadata.jsonl` or `.csv` beside them: the imagefolder convention of `datasets`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from diptych.data.formats.csv import read_csv
from diptych.data.formats.jsonl import read_jsonl
from diptych.data.formats.places import Pictures, files_below, folders_below, relative_name
from diptych.data.formats.record import PICTURE_SUFFIXES, USUAL_SPLITS, Record, split_name
from diptych.data.index import KeySet
from diptych.data.rejects import Reject
from diptych.errors import DataError

NAMES = ("metadata.jsonl", "metadata.csv")


def sniff(source: Path) -> bool:
    """Whether there is a metadata file in the folder or in one of those in it."""
    return source.is_dir() and bool(_metadata(source))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of every metadata file, then a reject for each picture that none of them names.

    Paths count from the metadata file's own folder; a folder called as a split is one. Links out of `source` are
    refused.

    Raises:
        DataError: there is no metadata file.
    """
    files = _metadata(source)
    if not files:
        raise DataError(
            f"{source} has no {' or '.join(NAMES)}; write one with a line a picture, or name another --format"
        )
    root = source.resolve()
    with tempfile.TemporaryDirectory() as folder:
        named = KeySet(Path(folder))
        for file in files:
            for record in _rows(file, source):
                found = record.image if isinstance(record, Record) else None
                named.add(relative_name(found, root) if isinstance(found, Path) else record.key)
                yield record
        yield from _unnamed(source, named)


def _rows(file: Path, source: Path) -> Iterator[Record | Reject]:
    folder = file.parent
    split = split_name(folder.name) if folder != source and folder.name.lower() in USUAL_SPLITS else None
    prefix = "" if folder == source else f"{relative_name(folder, source)}/"
    read_file = read_csv if file.suffix == ".csv" else read_jsonl
    yield from read_file(file, Pictures(folder, prefix), split=split)


def _unnamed(source: Path, named: KeySet) -> Iterator[Reject]:
    root = source.resolve()
    for path in files_below(source):
        name = relative_name(path, source)
        if path.suffix.lower() not in PICTURE_SUFFIXES or name in named:
            continue
        if path.is_symlink() and path.resolve().is_relative_to(root):
            continue
        yield Reject(name, name, "no line of a metadata file names this picture")


def _metadata(source: Path) -> list[Path]:
    folders = [source, *folders_below(source)]
    return [folder / name for folder in folders for name in NAMES if (folder / name).is_file()]
