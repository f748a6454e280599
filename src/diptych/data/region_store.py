"""Our own store of regions: an Arrow table, float16 features, read by key as views of the mapped files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.compute as pc

from diptych.data import layout
from diptych.data.index import KeySet
from diptych.data.region_checks import COMMAND
from diptych.data.region_rows import ARRAYS, REQUIRED, SIZE, RegionRows, column_types
from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import Rows, Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

SPLIT = "regions"
META = "regions"
"""Where the table's meta holds the RegionSpec."""


class RegionWriter:
    """Writes regions, one row a picture, as a store table; a context manager whose clean end is `finish`.

    As with `TableWriter`, the folder appears whole or not at all, every finished shard outlasts a kill, and with
    `resume=True` the next writer goes on behind it.
    """

    def __init__(
        self,
        out: Path,
        spec: RegionSpec,
        *,
        num_classes_kept: int = 5,
        num_attributes_kept: int = 3,
        soft_labels: bool = False,
        num_soft_labels: int | None = None,
        pictures_per_shard: int = 256,
        source: str = "",
        resume: bool = False,
    ) -> None:
        """Begins, or goes on with, the store `out`.

        Args:
            out: the folder that will be the store; nothing may be there yet.
            spec: what all its regions are made with.
            num_classes_kept: the likeliest classes of a region that are kept (all where there are fewer); 0: none.
            num_attributes_kept: likewise.
            soft_labels: keep the whole softmax of every region too: 2 (1 + C) bytes.
            num_soft_labels: 1 + C where the spec names no classes.
            pictures_per_shard: what a kill costs at most.
            source: what the store is made of, for people and for telling whether a resume goes on with the same.
            resume: keep the shards of an unfinished attempt; otherwise they are removed.

        Raises:
            RunExistsError: `out` is there already, or another process is writing it.
            DataError: the unfinished attempt was of something else.
        """
        self.spec = spec
        self._columns = RegionRows(
            spec,
            num_classes_kept=num_classes_kept,
            num_attributes_kept=num_attributes_kept,
            soft_labels=soft_labels,
            num_soft_labels=num_soft_labels,
        )
        self._writer = TableWriter(
            out,
            kind=layout.STORE,
            columns=self._columns.types,
            rows_per_shard=pictures_per_shard,
            meta={META: asdict(spec)},
            source=", ".join(filter(None, (source, spec.detector, spec.rule, f"{spec.box_kind} boxes", spec.digest()))),
            resume=resume,
        )

    def written_keys(self) -> KeySet:
        """The pictures that are in already, of this and of earlier attempts."""
        return self._writer.written_keys()

    def add(self, key: str, regions: Regions) -> None:
        """Writes the regions of one picture.

        Raises:
            DataError: the key was there already, or the regions are not as they should be; nothing is written then.
        """
        self._writer.add(SPLIT, key=key, fields=self._columns.row(key, regions))

    def take_in(self) -> None:
        """Takes in the shards that `write_shard` put into the folder meanwhile."""
        self._writer.take_in()

    def abandon(self) -> None:
        """Lets go of the folder; what is finished stays there for a resume."""
        self._writer.abandon()

    def end_shards(self) -> None:
        """Ends the shard at hand early, so that a stop right after this loses no picture."""
        self._writer.end_shards()

    def finish(self) -> None:
        """Ends the shards, and gives the folder its name.

        Raises:
            DataError: no picture was added.
        """
        self._writer.finish()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


class RegionTable:
    """A `RegionStore` on an Arrow table. Arrays are read-only views of mapped files; copy them to write."""

    def __init__(self, path: Path, spec: RegionSpec, splits: tuple[Rows, ...], fingerprint: str) -> None:
        """Use `open_region_table`, which checks the files first."""
        self.path = path
        self.spec = spec
        self.fingerprint = fingerprint
        """Of the content; runs note it."""
        self._splits = splits
        columns = splits[0].columns
        self._arrays = tuple(name for name in ARRAYS if name in columns)

    @property
    def num_regions(self) -> int:
        """Of all pictures together."""
        return sum(pc.sum(pc.list_value_length(rows.column("scores"))).as_py() for rows in self._splits)

    def __reduce__(self) -> tuple[Any, ...]:
        return RegionTable, (self.path, self.spec, self._splits, self.fingerprint)

    def __len__(self) -> int:
        return sum(map(len, self._splits))

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def keys(self) -> Iterator[str]:
        """In the order they are stored."""
        for rows in self._splits:
            for chunk in rows.column("key").chunks:
                yield from chunk.to_pylist()

    def regions(self, key: str) -> Regions:
        """The regions of one picture, nothing copied.

        Raises:
            DataError: there are none of this key, or its file was damaged since the store was opened.
        """
        found = self._find(key)
        if found is None:
            raise DataError(f"{self.path} has no regions of {key!r}")
        rows, row = found
        size, *arrays = rows.arrays(row, (SIZE, *self._arrays))
        height, width = (None, None) if size is None else size.tolist()
        parts: Mapping[str, Any] = dict(zip(self._arrays, arrays, strict=True))
        return Regions(height_px=height, width_px=width, **parts)

    def _find(self, key: str) -> tuple[Rows, int] | None:
        for rows in self._splits:
            row = rows.find([key])[0]
            if row is not None:
                return rows, row
        return None


def open_region_table(path: Path) -> RegionTable:
    """The store in folder `path`, its files checked as `open_table` does.

    Raises:
        DataError: it is no store of regions, a file of it is damaged, or a newer diptych wrote it.
    """
    table = open_table(path)
    spec = _spec(table)
    _check_columns(table, spec)
    return RegionTable(path, spec, tuple(table.split(name) for name in table.splits), table.fingerprint)


def _spec(table: Table) -> RegionSpec:
    found = table.meta.get(META)
    if table.kind != layout.STORE or found is None:
        raise DataError(f"{table.path} is a table, but no store of regions; make one with {COMMAND}")
    try:
        return RegionSpec.of(found)
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{table.path} says of its regions what this diptych does not know ({error}); "
            "upgrade it: pip install --upgrade diptych"
        ) from error


def _check_columns(table: Table, spec: RegionSpec) -> None:
    """The columns are those that `RegionWriter` makes, whatever numbers of classes were kept."""
    lists = {name: table.columns[name] for name in ARRAYS if name in table.columns}
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise DataError(f"{table.path} is a store without the columns {', '.join(missing)}; make it again: {COMMAND}")
    widths = {name: type_.value_type.list_size for name, type_ in lists.items() if name != "scores"}
    wanted = column_types(
        spec, widths.get("class_ids", 0), widths.get("attribute_ids", 0), widths.get("soft_labels", 0)
    )
    for name, type_ in wanted.items():
        if table.columns[name] != type_:
            raise DataError(f"{table.path}: column {name!r} is {table.columns[name]}; expected {type_}")
