"""The formats by name, and which of them a source is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from diptych.data.formats.record import Record
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
)
"""In the order in which a source is tried: the marks of the first are the surest."""
WITHOUT_PICTURES = ("uniter-texts",)
"""Those whose rows are texts of pictures that are known by their regions alone."""


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
    found = next((name for name in NAMES if _sniffer(name)(path)), None)
    if found is None:
        raise DataError(_unrecognised(path))
    return found


def read(name: str, source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of `source` in the format called `name`; see `Reader`."""
    from diptych.data.formats import (
        classfolder,
        coco,
        csv,
        hub,
        imagefolder,
        jsonl,
        karpathy,
        parquet,
        uniter_texts,
        webdataset,
    )

    match name:
        case "datasets":
            return hub.read(source, pictures=pictures)
        case "uniter-texts":
            return uniter_texts.read(source, pictures=pictures)
        case "imagefolder":
            return imagefolder.read(source, pictures=pictures)
        case "webdataset":
            return webdataset.read(source, pictures=pictures)
        case "parquet":
            return parquet.read(source, pictures=pictures)
        case "karpathy":
            return karpathy.read(source, pictures=pictures)
        case "coco":
            return coco.read(source, pictures=pictures)
        case "jsonl":
            return jsonl.read(source, pictures=pictures)
        case "csv":
            return csv.read(source, pictures=pictures)
        case "classfolder":
            return classfolder.read(source, pictures=pictures)
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


def _sniffer(name: str) -> Callable[[Path], bool]:
    from diptych.data.formats import (
        classfolder,
        coco,
        csv,
        hub,
        imagefolder,
        jsonl,
        karpathy,
        parquet,
        uniter_texts,
        webdataset,
    )

    return {
        "datasets": hub.sniff,
        "uniter-texts": uniter_texts.sniff,
        "imagefolder": imagefolder.sniff,
        "webdataset": webdataset.sniff,
        "parquet": parquet.sniff,
        "karpathy": karpathy.sniff,
        "coco": coco.sniff,
        "jsonl": jsonl.sniff,
        "csv": csv.sniff,
        "classfolder": classfolder.sniff,
    }[name]


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
        f"COCO or Karpathy JSON; name it with --format: {', '.join(NAMES)}"
    )
