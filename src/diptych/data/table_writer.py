"""Writing a table: shards into OUT.partial, which becomes OUT whole at the end."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from diptych.data import layout
from diptych.data.durable import flush_to_disk, sha256_of, write_synced
from diptych.data.index import KeySet
from diptych.data.layout import Layout, ShardFile, partial_of
from diptych.data.shards import Shard
from diptych.data.split_writer import SplitWriter, keys_of
from diptych.errors import DataError, RunExistsError, unknown

PARTIAL_FILE = "partial.json"


class TableWriter:
    """Writes a table row by row; a context manager whose clean end is `finish`.

    Every finished shard is kept under OUT.partial, also after an error or a kill: with `resume=True` the next writer
    goes on behind it, and `written_keys` says which rows need not come again.
    """

    def __init__(
        self,
        out: Path,
        *,
        kind: str = layout.PICTURES,
        columns: Mapping[str, pa.DataType] = {},
        rows_per_shard: int = 2048,
        meta: Mapping[str, Any] = {},
        source: str = "",
        resume: bool = False,
    ) -> None:
        """Begins, or goes on with, the table `out`.

        Args:
            out: the folder that will be the table; nothing may be there yet.
            kind: "pictures", or "store" for a table of `key` and own columns that is joined to another.
            columns: own columns beyond the standard ones.
            rows_per_shard: rows of one Arrow file.
            meta: anything JSON can hold, e.g. "label_names"; the attribute `meta` may be added to until the end.
            source: what the table is made of, for people and for telling whether a resume goes on with the same.
            resume: keep the shards of an unfinished attempt; otherwise they are removed.

        Raises:
            RunExistsError: `out` is there already, or another process is writing it.
            DataError: the unfinished attempt was of something else.
        """
        layout.refuse_existing(out)
        self.out = out
        self.folder = layout.partial_of(out)
        self.kind = kind
        self.meta = dict(meta)
        self.source = source
        self._schema = layout.schema_of(kind, columns)
        self._own = tuple(columns)
        self._rows_per_shard = rows_per_shard
        self._begin(resume)
        self.take_in()

    def take_in(self) -> None:
        """Takes in the shards that lie in the folder: of an earlier attempt, or written meanwhile by `write_shard`."""
        self._keys = KeySet(self.folder)
        self._splits = {name: self._split(name, parts) for name, parts in self._finished_shards().items()}

    def written_keys(self) -> KeySet:
        """The keys that are in already, of this and of earlier attempts; ask with `key in writer.written_keys()`."""
        return self._keys

    @property
    def rows(self) -> dict[str, int]:
        """Rows so far, by split."""
        return {name: split.num_rows for name, split in self._splits.items()}

    def add(
        self,
        split: str,
        *,
        key: str,
        image: bytes | None = None,
        texts: Sequence[str] = (),
        image_path: str | None = None,
        group: str | None = None,
        label: int | None = None,
        fields: Mapping[str, Any] = {},
    ) -> None:
        """Writes one row.

        Args:
            split: e.g. "train"; made when its first row comes.
            key: unique in the table.
            image: the file's bytes; or `image_path`, where it lies (relative: to the table's folder).
            group: rows of one group show the same thing; the key where none is given.
            label: a number, e.g. a place in meta["label_names"].
            fields: values of own columns; one left out is null. A NumPy array goes into a column of `ragged` type.

        Raises:
            DataError: the key was there already, a column is unknown, or a value is not of its column's type.
        """
        self._check(key, image, texts, image_path, fields)
        row: dict[str, Any] = {"key": key, **fields}
        if self.kind != layout.STORE:
            row |= {"group": key if group is None else group, "image": image, "image_path": image_path}
            row |= {"texts": list(texts), "label": label}
        elif image is not None or image_path is not None or texts or label is not None or group is not None:
            raise DataError(
                f"a store holds only keys and own columns; row {key!r} came with a picture, texts or a label"
            )
        if split not in self._splits:
            layout.check_split_name(split)
            self._splits[split] = self._split(split)
        if not self._keys.add(key):
            raise DataError(
                f"the key {key!r} came twice; keys are unique in a table, so give the second row another one"
            )
        arrays = sum(value.nbytes for value in fields.values() if isinstance(value, np.ndarray))
        self._splits[split].add(row, size=len(image or b"") + sum(map(len, texts)) + arrays + 64)

    def finish(self) -> None:
        """Ends the shards, writes the indexes and `table.json`, and gives the folder its name.

        Raises:
            DataError: no row was added.
        """
        if not self._keys:
            raise DataError(f"no rows came, so there is no table to write at {self.out}")
        splits = {name: self._splits[name].finish() for name in sorted(self._splits, key=_usual_order)}
        columns = {field.name: str(field.type) for field in self._schema}
        content = Layout(kind=self.kind, columns=columns, splits=splits, meta=self.meta, source=self.source)
        write_synced(self.folder / layout.TABLE_FILE, content.to_json().encode())
        (self.folder / PARTIAL_FILE).unlink()
        flush_to_disk(self.folder)
        self.folder.rename(self.out)
        flush_to_disk(self.out.parent)
        self._lock.close()

    def end_shards(self) -> None:
        """Ends the shards at hand early, so that a stop right after this loses no row."""
        for split in self._splits.values():
            split.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Lets go of the folder; what is finished stays there for a resume. After `finish` there is nothing to do."""
        for split in self._splits.values():
            split.abandon()
        self._lock.close()

    def _split(self, name: str, finished: Sequence[ShardFile] = ()) -> SplitWriter:
        return SplitWriter(self.folder, name, self._schema, self._rows_per_shard, finished)

    def _begin(self, resume: bool) -> None:
        """Makes or takes over OUT.partial, under a lock that ends with the process."""
        about = self.folder / PARTIAL_FILE
        if self.folder.exists() and not about.is_file() and any(self.folder.iterdir()):
            raise RunExistsError(
                f"{self.folder} is no unfinished table of ours; move it away, it is needed for writing"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = about.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunExistsError(f"{self.folder} is being written by another process; wait for it to end") from error
        wanted = self._about()
        self._lock.seek(0)
        found = self._lock.read()
        if resume and found and found != wanted:
            raise DataError(
                f"{self.folder} was begun with {_difference(found, wanted)}; "
                "remove that folder to start anew, or choose another OUT"
            )
        if not resume:
            _remove_all_but(self.folder, about)
        self._lock.truncate(0)
        self._lock.write(wanted)
        self._lock.flush()

    def _about(self) -> str:
        """What a later attempt must agree in."""
        columns = {field.name: str(field.type) for field in self._schema}
        about = {"kind": self.kind, "rows_per_shard": self._rows_per_shard, "columns": columns, "source": self.source}
        return json.dumps({"format": layout.FORMAT, **about}, indent=2)

    def _finished_shards(self) -> dict[str, list[ShardFile]]:
        """The shards of an earlier attempt by split, checked; their keys are noted, and unfinished ones removed."""
        found: dict[str, list[ShardFile]] = {}
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        for path in sorted(self.folder.glob("*.arrow")):
            name = path.stem.rpartition("-")[0]
            part = ShardFile(file=path.name, rows=0, bytes=path.stat().st_size, sha256=sha256_of(path))
            shard = Shard(path, part)
            part = ShardFile(file=path.name, rows=shard.num_rows, bytes=part.bytes, sha256=part.sha256)
            shard.check(part, self._schema)
            found.setdefault(name, []).append(part)
            for key in keys_of(shard):
                self._keys.add(key)
        return found

    def _check(
        self, key: str, image: bytes | None, texts: Sequence[str], image_path: str | None, fields: Mapping[str, Any]
    ) -> None:
        """What would otherwise be found out a thousand rows later."""
        if not key:
            raise DataError("a row came without a key; every row needs one that is unique in the table")
        if image is not None and image_path is not None:
            raise DataError(f"row {key!r} has both a picture and a path to one; give one of the two")
        if isinstance(texts, str):
            raise DataError(f"texts of row {key!r} is one string; give a list, also of one")
        for name in fields:
            if name not in self._own:
                raise DataError(f"row {key!r}: {unknown('column', name, self._own)}")
        try:
            for text in (key, *texts):
                text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"row {key!r} has text that is no Unicode (a stray surrogate); was it read as UTF-8?"
            ) from error


def write_shard(
    out: Path, kind: str, columns: Mapping[str, pa.DataType], split: str, number: int, rows: Sequence[dict[str, Any]]
) -> None:
    """One shard of a table that is being written by this or another process, which will `take_in` it; atomic.

    Args:
        out: the folder that will be the table.
        kind: as the `TableWriter` was told.
        columns: likewise.
        split: whose shard it is.
        number: of the shard among those of its split.
        rows: with the standard columns; their keys are nowhere else in the table.
    """
    writer = SplitWriter(partial_of(out), split, layout.schema_of(kind, columns), len(rows), first=number)
    for row in rows:
        writer.add(row, size=0)


def _difference(found: str, wanted: str) -> str:
    """In what an unfinished attempt differs, for people."""
    try:
        old, new = json.loads(found), json.loads(wanted)
        differing = [name for name in new if old[name] != new[name]]
        return " and ".join(_one_differs(name, old[name], new[name]) for name in differing)
    except (ValueError, AttributeError, KeyError, TypeError):
        return "other settings"


def _one_differs(name: str, old: Any, new: Any) -> str:
    match name:
        case "columns":
            return _columns_differ(old, new)
        case "source":
            return _parts_differ(old, new)
        case _:
            return f"{name} {old!r} (now {new!r})"


def _columns_differ(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Which columns, by name; their Arrow types say nothing to people."""
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    other = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    told = [f"{', '.join(gone)} (now without)"] if gone else []
    told += [f"no {', '.join(come)} (now with)"] if come else []
    return " and ".join([*told, *([f"another width or type of {', '.join(other)}"] if other else [])])


def _parts_differ(old: str, new: str) -> str:
    """Of what a table is made of, parts with commas between them, those that are not the same."""
    parts, wanted = old.split(", "), new.split(", ")
    gone = ", ".join(part for part in parts if part not in wanted) or "less"
    come = ", ".join(part for part in wanted if part not in parts) or "without"
    return f"{gone} (now {come})"


def _remove_all_but(folder: Path, kept: Path) -> None:
    for path in folder.iterdir():
        if path == kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _usual_order(split: str) -> tuple[int, str]:
    """Train, validation and test first, then the others by name."""
    usual = ("train", "validation", "test")
    return (usual.index(split) if split in usual else len(usual)), split
