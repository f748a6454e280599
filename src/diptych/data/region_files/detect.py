"""Which format a path of regions is, and the store that reads it."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from diptych.data.layout import TABLE_FILE, partial_of
from diptych.data.region_files.butd_tsv import LAYOUTS, ButdTsv
from diptych.data.region_files.labels import is_label_row
from diptych.data.region_files.lines import Lines
from diptych.data.region_files.old_store import OldStore, check_names
from diptych.data.region_files.oscar import OscarTsv, feature_file, is_feature_row
from diptych.data.region_files.uniter_lmdb import UniterLmdb
from diptych.data.region_files.uniter_npz import UniterNpz
from diptych.data.region_files.vinvl import VinvlTsv, is_vinvl_row, vinvl_file
from diptych.data.region_store import open_region_table
from diptych.data.regions import RegionSpec, RegionStore
from diptych.errors import DataError, UsageError, neighbour

FIRST = 20
"""Rows of two columns that are looked at; one of them is whole and has regions."""
EXPECTED = f"a store ({TABLE_FILE}), an LMDB (data.mdb), .npz files, or a .tsv of features"
NAMES = ("diptych", "uniter-lmdb", "uniter-npz", *LAYOUTS, "oscar-tsv", "vinvl-tsv")


def open_regions(
    path: Path, *, classes: tuple[str, ...] = (), attributes: tuple[str, ...] = (), labels: Path | None = None
) -> RegionStore:
    """The regions at `path`, whoever made them, read in place.

    Args:
        path: a store of ours, a folder of .npz files, a folder of an LMDB, or a .tsv of any known layout.
        classes: names in the order of class ids, where the files do not give them.
        attributes: likewise.
        labels: Oscar's file of labels, where it does not lie beside the features.

    Raises:
        UsageError: names or labels are given to files that have no use for them.
        DataError: it is none of these, told with what was found; or it is damaged.
        MissingExtraError: a package of `diptych[legacy]` is missing.
    """
    kind = detect(path)
    _check_use(path, kind, bool(classes or attributes), labels)
    if kind == "diptych":
        return open_region_table(path)
    store = _old_store(path, kind, classes, attributes, labels)
    _check_side(path, store)
    if classes or attributes:
        check_names(store, classes, attributes)
    return store


def _old_store(
    path: Path, kind: str, classes: tuple[str, ...], attributes: tuple[str, ...], labels: Path | None
) -> OldStore:
    match kind:
        case "uniter-lmdb":
            return UniterLmdb(path, told_spec(path), classes, attributes)
        case "uniter-npz":
            return UniterNpz(path, told_spec(path), classes, attributes)
        case "vinvl-tsv":
            return VinvlTsv(path, told_spec(vinvl_file(path)), classes, attributes)
        case "oscar-tsv":
            return OscarTsv(path, told_spec(feature_file(path)), classes, attributes, labels)
        case _:
            return ButdTsv(path, told_spec(path), classes, attributes)


def _check_side(path: Path, store: OldStore) -> None:
    """Sees that the side file is of this file, and not of one that lay here before.

    Raises:
        DataError: it is of another format.
    """
    data = store.features if isinstance(store, OscarTsv) else vinvl_file(path) if store.format == "vinvl-tsv" else path
    file = side_file(data)
    told = json.loads(file.read_text(encoding="utf-8")).get("format") if file.is_file() else None
    if told not in (None, store.format):
        raise DataError(
            f"{file} says what a file of the format {told} was made with, and {path} is {store.format}, another file; "
            f"remove {file}, or put the file back that it is of"
        )


def _check_use(path: Path, kind: str, names: bool, labels: Path | None) -> None:
    if names and kind == "diptych":
        raise UsageError(
            f"{path} is a store, which knows the names of its classes and attributes; leave --classes and --attributes "
            "out, or import the old files again with them"
        )
    if labels is not None and kind != "oscar-tsv":
        raise UsageError(f"--labels is for Oscar's pairs of files, and {path} is {kind}; leave it out")


def detect(path: Path) -> str:
    """One of NAMES ("butd-tsv" for all three layouts of that family: reading tells which).

    Raises:
        DataError: it is none of them.
    """
    if not path.exists() and not partial_of(path).exists():
        raise DataError(f"there is nothing at {path}{neighbour(path)}")
    if (path / TABLE_FILE).is_file() or partial_of(path).is_dir():
        return "diptych"
    if (path / "data.mdb").is_file():
        return "uniter-lmdb"
    if path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npz"))):
        return "uniter-npz"
    if path.is_dir() and feature_file(path).is_file():
        return "oscar-tsv"
    if path.is_file() or vinvl_file(path).is_file():
        return _tsv(vinvl_file(path))
    found = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
    raise DataError(f"{path} holds no regions that diptych knows; found {found}. Expected {EXPECTED}")


def _tsv(file: Path) -> str:
    lines, some = Lines(file), []
    for start in islice(lines.starts(), FIRST):
        cells = lines.columns(start)
        some.append(cells)
        if is_feature_row(cells):
            return "oscar-tsv"
        if is_vinvl_row(cells):
            return "vinvl-tsv"
        if len(cells) >= len(LAYOUTS["butd-tsv"]):
            return "butd-tsv"
    if all(len(cells) == 1 for cells in some):
        raise DataError(f"{file} holds no regions: none of its first rows has a tab. Expected {EXPECTED}")
    if any(is_label_row(cells) for cells in some):
        raise DataError(
            f"{file} holds labels without features; give the file of features, and these with --labels where they lie "
            "elsewhere"
        )
    return "butd-tsv"


def side_file(path: Path) -> Path:
    """Where an export says what its regions were made with."""
    return path.with_name(path.name + ".regions.json")


def told_spec(path: Path) -> RegionSpec | None:
    """What the side file of an export says; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    file = side_file(path)
    if not file.is_file():
        return None
    try:
        return RegionSpec.of(json.loads(file.read_text(encoding="utf-8"))["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}); remove it to read the file without its metadata") from error
