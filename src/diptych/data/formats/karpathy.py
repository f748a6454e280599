"""Karpathy's splits of Flickr8k, Flickr30k and COCO: one JSON file with pictures, sentences and the split of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych.data.formats.json_stream import top_level
from diptych.data.formats.lists import printable
from diptych.data.formats.places import Pictures
from diptych.data.formats.record import Record, split_name, texts_of
from diptych.data.rejects import Reject
from diptych.errors import DataError


def sniff(source: Path) -> bool:
    """Whether `source` is such a file, or a folder with exactly one."""
    return _is_karpathy(source) if source.is_file() else len(_files(source)) == 1


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The pictures of the file; the key is COCO's id where there is one, else the path.

    `restval`, the part of COCO's validation pictures that is trained on, stays a split of its own.

    Raises:
        DataError: there is no such file, or it is no JSON.
    """
    files = [source] if source.is_file() else _files(source)
    if not files:
        raise DataError(f"{source} has no Karpathy split (a .json file of images with sentences)")
    found = Pictures(source.parent if source.is_file() else source)
    for file in files:
        rows = (row for name, row in top_level(file) if name == "images")
        for number, row in enumerate(rows):
            yield _record(row, number, file.name, found)


def _record(row: Any, number: int, file: str, pictures: Pictures) -> Record | Reject:
    source = f"{file} image {number}"
    if not isinstance(row, Mapping) or not isinstance(row.get("filename"), str):
        return Reject(f"image {number}", source, "an entry of 'images' without filename")
    name = row["filename"]
    if isinstance(row.get("filepath"), str) and row["filepath"]:
        name = f"{row['filepath']}/{name}"
    cocoid = row.get("cocoid")
    try:
        return Record(
            key=name if cocoid is None else str(cocoid),
            source=source,
            image=_find(pictures, name, row["filename"]),
            texts=tuple(texts_of(row.get("sentences"))),
            split=split_name(str(row["split"])) if row.get("split") else None,
            fields={"imgid": row["imgid"]} if isinstance(row.get("imgid"), int) else {},
        )
    except DataError as error:
        return Reject(printable(name), source, str(error))


def _find(pictures: Pictures, *names: str) -> Path:
    """The first of the names that is there: with the file's own folder, or unpacked elsewhere."""
    for name in names[:-1]:
        try:
            return pictures.find(name)
        except DataError:
            if ".." in Path(name).parts:
                raise
    return pictures.find(names[-1])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and _is_karpathy(path))


def _is_karpathy(file: Path) -> bool:
    if file.suffix != ".json":
        return False
    try:
        first = next((row for name, row in top_level(file) if name == "images"), None)
    except DataError:
        return False
    return isinstance(first, Mapping) and "filename" in first and "sentences" in first
