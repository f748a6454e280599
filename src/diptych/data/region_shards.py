"""A store of regions written shard by shard, in any order, by processes that share the work and a file system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import layout
from diptych.data.region_rows import RegionRows
from diptych.data.region_store import SPLIT, RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.split_writer import shard_name
from diptych.data.table_writer import write_shard


class RegionShards:
    """One process begins the store and finishes it; all of them, that one too, write shards by number.

    A shard is there whole or not at all, whatever is killed; what a shard holds must follow from its number alone.
    """

    def __init__(
        self,
        out: Path,
        spec: RegionSpec,
        *,
        soft_labels: bool = False,
        num_soft_labels: int | None = None,
        source: str,
    ) -> None:
        """Touches nothing yet.

        Args:
            out: the folder that will be the store.
            spec: what all its regions are made with.
            soft_labels: keep the whole softmax of every region too.
            num_soft_labels: 1 + C where the spec names no classes.
            source: what the store is made of; a resume must be of the same.
        """
        self.out = out
        self.folder = layout.partial_of(out)
        """Where it is until it is whole."""
        self._spec, self._source = spec, source
        self._soft_labels, self._num_soft_labels = soft_labels, num_soft_labels
        self._columns = RegionRows(spec, soft_labels=soft_labels, num_soft_labels=num_soft_labels)
        self._writer: RegionWriter | None = None

    def begin(self) -> None:
        """Begins the store, or goes on with an unfinished one, whose shards are checked.

        Raises:
            RunExistsError: the store is there already, or another process is writing it.
            DataError: the unfinished one is of something else.
        """
        self._writer = RegionWriter(
            self.out,
            self._spec,
            soft_labels=self._soft_labels,
            num_soft_labels=self._num_soft_labels,
            source=self._source,
            resume=True,
        )

    def has(self, number: int) -> bool:
        """Whether a shard is there."""
        return (self.folder / shard_name(SPLIT, number)).exists()

    def row(self, key: str, regions: Regions) -> dict[str, Any]:
        """The regions of one picture as `write` takes them.

        Raises:
            DataError: they are not as they should be; the message says why.
        """
        return {"key": key, **self._columns.row(key, regions)}

    def write(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
        """Writes one shard, of one row or more."""
        write_shard(self.out, layout.STORE, self._columns.types, SPLIT, number, rows)

    def finish(self) -> tuple[int, int]:
        """Of the process that began: the store whole, under its name.

        Returns:
            The number of pictures and of regions in it.
        Raises:
            DataError: there is not one picture in it, or a shard is damaged.
        """
        assert self._writer is not None
        self._writer.take_in()
        self._writer.finish()
        store = open_region_table(self.out)
        return len(store), store.num_regions

    def let_go(self) -> None:
        """Gives up the lock, where this process has it."""
        if self._writer is not None:
            self._writer.abandon()


def num_bytes(row: Mapping[str, Any]) -> int:
    """What a row of `RegionShards.row` takes on disk."""
    return sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
