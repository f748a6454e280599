"""Our own store of regions: an Arrow table, float16 features, read by key as views of the mapped files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from diptych.data import layout
from diptych.data.index import KeySet
from diptych.data.ragged import ragged
from diptych.data.region_checks import COMMAND, check_regions
from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import Rows, Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

SPLIT = "regions"
META = "regions"
"""Where the table's meta holds the RegionSpec."""
ARRAYS = (
    "boxes",
    "features",
    "scores",
    "class_ids",
    "class_probs",
    "soft_labels",
    "attribute_ids",
    "attribute_probs",
)
SIZE = "size_px"
REQUIRED = (SIZE, "boxes", "features", "scores")


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
        self._classes = _fewer(num_classes_kept, spec.classes)
        self._attributes = _fewer(num_attributes_kept, spec.attributes)
        self._softmax = (num_soft_labels or 1 + len(spec.classes)) if soft_labels else 0
        self._writer = TableWriter(
            out,
            kind=layout.STORE,
            columns=_columns(spec, self._classes, self._attributes, self._softmax),
            rows_per_shard=pictures_per_shard,
            meta={META: asdict(spec)},
            source=", ".join(filter(None, (source, spec.detector, spec.rule, spec.detector_hash[:16]))),
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
        check_regions(key, regions, self.spec)
        class_ids, class_probs = regions.class_ids, regions.class_probs
        if class_ids is None and regions.soft_labels is not None and self._classes:
            class_ids, class_probs = likeliest(regions.soft_labels[:, 1:], self._classes)
        row: dict[str, Any] = {
            SIZE: _size(regions),
            "boxes": regions.boxes.astype(np.float32, copy=False),
            "features": regions.features.astype(np.float16, copy=False),
            "scores": regions.scores.astype(np.float32, copy=False),
        }
        row |= _kept(key, "class", class_ids, class_probs, self._classes)
        row |= _kept(key, "attribute", regions.attribute_ids, regions.attribute_probs, self._attributes)
        if self._softmax:
            row["soft_labels"] = _soft_labels(key, regions.soft_labels, self._softmax)
        self._writer.add(SPLIT, key=key, fields=row)

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


def likeliest(probs: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The `num` likeliest of (R, C) with their probabilities, both (R, num), best first; ties by the lower id."""
    num = min(num, probs.shape[1])
    found = np.sort(np.argpartition(-probs, num - 1, axis=1)[:, :num], axis=1)
    order = np.argsort(-np.take_along_axis(probs, found, axis=1), axis=1, kind="stable")
    ids = np.take_along_axis(found, order, axis=1)
    return ids.astype(np.int32), np.take_along_axis(probs, ids, axis=1)


def _fewer(num: int, names: tuple[str, ...]) -> int:
    return min(num, len(names)) if names else num


def _columns(spec: RegionSpec, classes: int, attributes: int, softmax: int) -> dict[str, pa.DataType]:
    columns = {
        SIZE: ragged(pa.int32()),  # height, width
        "boxes": ragged(pa.float32(), 4),
        "features": ragged(pa.float16(), spec.feature_width),
        "scores": ragged(pa.float32()),
    }
    for name, num in (("class", classes), ("attribute", attributes)):
        if num:
            columns |= {f"{name}_ids": ragged(pa.int32(), num), f"{name}_probs": ragged(pa.float16(), num)}
    if softmax:
        columns["soft_labels"] = ragged(pa.float16(), softmax)
    return columns


def _size(regions: Regions) -> np.ndarray | None:
    if regions.height_px is None or regions.width_px is None:
        return None
    return np.array([regions.height_px, regions.width_px], dtype=np.int32)


def _kept(key: str, name: str, ids: np.ndarray | None, probs: np.ndarray | None, num: int) -> dict[str, np.ndarray]:
    """The columns of the `num` likeliest classes or attributes; none where the regions have none."""
    if ids is None or probs is None or not num:
        return {}
    if ids.shape[1] < num:
        raise DataError(
            f"the regions of {key!r} have {ids.shape[1]} {name}_ids each and the store keeps {num}; keep fewer"
        )
    return {f"{name}_ids": ids[:, :num].astype(np.int32), f"{name}_probs": probs[:, :num].astype(np.float16)}


def _soft_labels(key: str, soft_labels: np.ndarray | None, num: int) -> np.ndarray:
    if soft_labels is None or soft_labels.shape[1] != num:
        found = "none" if soft_labels is None else soft_labels.shape[1]
        raise DataError(f"the store keeps {num} soft labels a region, and the regions of {key!r} have {found}")
    return soft_labels.astype(np.float16, copy=False)


def _spec(table: Table) -> RegionSpec:
    found = table.meta.get(META)
    if table.kind != layout.STORE or found is None:
        raise DataError(f"{table.path} is a table, but no store of regions; make one with {COMMAND}")
    try:
        names = {name: tuple(found[name]) for name in ("classes", "attributes")}
        return RegionSpec(**{**found, **names})
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
    wanted = _columns(spec, widths.get("class_ids", 0), widths.get("attribute_ids", 0), widths.get("soft_labels", 0))
    for name, type_ in wanted.items():
        if table.columns[name] != type_:
            raise DataError(f"{table.path}: column {name!r} is {table.columns[name]}; expected {type_}")
