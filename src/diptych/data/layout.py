"""What a table's folder holds: the standard columns, and `table.json` as a value."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from diptych.errors import DataError, RunExistsError

FORMAT = 1
"""Of the folder as a whole; a reader refuses newer ones by name."""

TABLE_FILE = "table.json"
REJECTS_FILE = "rejects.jsonl"

PICTURES = "pictures"
STORE = "store"

PICTURE_COLUMNS: Mapping[str, pa.DataType] = {
    "key": pa.string(),
    "group": pa.string(),
    "image": pa.large_binary(),
    "image_path": pa.string(),
    "texts": pa.list_(pa.string()),
    "label": pa.int64(),
}
STORE_COLUMNS: Mapping[str, pa.DataType] = {"key": pa.string()}


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One Arrow file of a split."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of one split."""

    rows: int
    shards: tuple[ShardFile, ...]
    index: ShardFile


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`table.json` as a value."""

    kind: str
    columns: Mapping[str, str]
    """Name -> Arrow type, as pyarrow prints it; the shards' own schema is what counts."""
    splits: Mapping[str, SplitFiles]
    meta: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def fingerprint(self) -> str:
        """Of the content: equal for equal rows, columns and meta, wherever the folder lies."""
        content = asdict(self)
        del content["source"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """The text of `table.json`."""
        content = {"format": FORMAT, "fingerprint": self.fingerprint, **asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def schema_of(kind: str, columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """The Arrow schema of a table: the standard columns of its kind, then its own.

    Raises:
        DataError: an own column has the name of a standard one.
    """
    standard = STORE_COLUMNS if kind == STORE else PICTURE_COLUMNS
    taken = sorted(set(standard) & set(columns))
    if taken:
        raise DataError(f"own columns may not be named as standard ones; found {', '.join(taken)}; choose other names")
    return pa.schema([pa.field(name, type_) for name, type_ in {**standard, **columns}.items()])


def check_split_name(name: str) -> None:
    """Splits name files, so only letters, digits, `_`, `-` and `.` are allowed.

    Raises:
        DataError: the name has anything else in it.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is None:
        raise DataError(f"a split may not be called {name!r}; use letters, digits, '_', '-' and '.', as in 'train'")


def read_layout(folder: Path) -> Layout:
    """What `table.json` of `folder` says.

    Raises:
        DataError: there is none, it is damaged, or a newer diptych wrote it.
    """
    file = folder / TABLE_FILE
    if not file.is_file():
        raise DataError(f"{folder} is no table: it has no {TABLE_FILE}{_hint(folder)}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        format_ = content["format"]
        if format_ > FORMAT:
            raise DataError(
                f"{folder} has table format {format_} and this diptych reads up to {FORMAT}; "
                "upgrade it: pip install --upgrade diptych"
            )
        layout = _layout(content)
        fingerprint = content["fingerprint"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({type(error).__name__}: {error}); import the table again") from error
    if fingerprint != layout.fingerprint:
        raise DataError(f"{file} is damaged: its fingerprint does not fit what it says; import the table again")
    return layout


def _layout(content: Mapping[str, Any]) -> Layout:
    splits = {
        name: SplitFiles(
            rows=split["rows"],
            shards=tuple(ShardFile(**shard) for shard in split["shards"]),
            index=ShardFile(**split["index"]),
        )
        for name, split in content["splits"].items()
    }
    for split in splits.values():
        for part in (*split.shards, split.index):
            if Path(part.file).name != part.file:
                raise ValueError(f"the file name {part.file!r} leads out of the folder")
    return Layout(
        kind=content["kind"],
        columns=content["columns"],
        splits=splits,
        meta=content["meta"],
        source=content["source"],
    )


def _hint(folder: Path) -> str:
    """What the user most likely has there instead of a table."""
    partial = partial_of(folder)
    if partial.is_dir():
        return f". An unfinished one lies at {partial}: run the command that began it again, and it goes on from there"
    if not folder.exists():
        return f" (there is nothing at {folder}). Make a table with `diptych data import SOURCE {folder}`"
    return f". Make a table of it with `diptych data import {folder} OUT`"


def refuse_existing(out: Path) -> None:
    """Sees that nothing is where a table is to be written.

    Raises:
        RunExistsError: something is.
    """
    if out.exists():
        raise RunExistsError(f"{out} is there already; choose another folder, or remove it first")


def partial_of(out: Path) -> Path:
    """Where the table `out` is kept while it is written."""
    return out.with_name(out.name + ".partial")
