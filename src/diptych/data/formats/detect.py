"""The formats by name, and which of them a source is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from diptych.data.formats.record import Reader, Record
from diptych.data.rejects import Reject
from diptych.errors import DataError, UsageError, neighbour, unknown

NAMES = (
    "datasets",
    "uniter-texts",
    "imagefolder",
    "webdataset",
    "parquet",
    "karpathy",
    "coco",
    "jsonl",
    "csv",
    "classfolder",
    "pictures",
)
"""In the order in which a source is tried: the marks of the first are the surest."""
WITHOUT_PICTURES = ("uniter-texts",)
"""Those whose rows are texts of pictures that are known by their regions alone."""
WITHOUT_WORDS = ("pictures",)
"""Those whose rows are pictures of which nothing is said."""


def detect(source: str, format: str | None) -> str:  # noqa: A002 - the word that users type
    """The format of `source`, or `format` where it is named.

    Raises:
        UsageError: there is no format of that name.
        DataError: there is nothing at `source`, or it is of no known format.
    """
    from diptych.data.formats import hub

    if format is not None and format not in NAMES:
        raise UsageError(f"--format: {unknown('format', format, NAMES)}")
    path = Path(source)
    if not path.exists():
        if format == "datasets" or (format is None and hub.may_be_hub_name(source)):
            return "datasets"
        raise DataError(f"there is nothing at {source}{_beside(path)}")
    if path.is_dir() and (path / "table.json").is_file():
        raise DataError(f"{source} is a table already; use it as it is: --data {source}")
    if format is not None:
        return format
    found = next((name for name in NAMES if _format(name).sniff(path)), None)
    if found is None:
        raise DataError(_unrecognised(path))
    return found


def read(name: str, source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of `source` in the format called `name`; see `Reader`."""
    return _format(name).read(source, pictures=pictures)


class _Format(Protocol):
    """What the module of a format has."""

    @property
    def sniff(self) -> Callable[[Path], bool]:
        """Whether a source bears the format's marks."""

    @property
    def read(self) -> Reader:
        """The rows of a source."""


def _format(name: str) -> _Format:
    """The module of the format of that name.

    Raises:
        UsageError: there is none.
    """
    match name:
        case "datasets":
            from diptych.data.formats import hub

            return hub
        case "uniter-texts":
            from diptych.data.formats import uniter_texts

            return uniter_texts
        case "imagefolder":
            from diptych.data.formats import imagefolder

            return imagefolder
        case "webdataset":
            from diptych.data.formats import webdataset

            return webdataset
        case "parquet":
            from diptych.data.formats import parquet

            return parquet
        case "karpathy":
            from diptych.data.formats import karpathy

            return karpathy
        case "coco":
            from diptych.data.formats import coco

            return coco
        case "jsonl":
            from diptych.data.formats import jsonl

            return jsonl
        case "csv":
            from diptych.data.formats import csv

            return csv
        case "classfolder":
            from diptych.data.formats import classfolder

            return classfolder
        case "pictures":
            from diptych.data.formats import pictures

            return pictures
        case _:
            raise UsageError(f"--format: {unknown('format', name, NAMES)}")


def label_names(name: str, source: Path) -> list[str]:
    """The names of the labels, where the source lists them apart from its rows; else none."""
    from diptych.data.formats import classfolder, hub, parquet

    match name:
        case "datasets":
            return hub.label_names(source)
        case "parquet":
            return parquet.label_names(source)
        case "classfolder":
            return classfolder.label_names(source)
        case _:
            return []


def _beside(path: Path) -> str:
    return neighbour(path) if path.parent.is_dir() else f", nor a folder {path.parent}"


def _unrecognised(path: Path) -> str:
    if path.is_dir():
        names = sorted(child.name for child in path.iterdir())
        found = f"found {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
    else:
        found = "it is a single file"
    return (
        f"the format of {path} is not recognised ({found}); expected a folder of class folders, one with "
        f"metadata.jsonl or metadata.csv, a list of paths and texts (CSV, JSON lines), Parquet, WebDataset tars, "
        f"COCO or Karpathy JSON, or a folder of pictures; name it with --format: {', '.join(NAMES)}"
    )
