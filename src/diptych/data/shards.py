"""Arrow files of a table: memory-mapped, checked in full once, read row by row."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diptych.data.durable import sha256_of
from diptych.data.layout import ShardFile
from diptych.data.ragged import RaggedColumn
from diptych.errors import DataError


class Shard:
    """One Arrow file, mapped into memory; rows come out as Python values."""

    def __init__(self, path: Path, part: ShardFile) -> None:
        """Opens the file without checking its inside.

        Raises:
            DataError: it is gone, has another size than `table.json` says, or is no Arrow file.
        """
        self.path, self._part = path, part
        check_size(path, part)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self.schema: pa.Schema = reader.schema
            self.batches: list[pa.RecordBatch] = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            self._columns = [dict(zip(self.schema.names, batch.columns, strict=True)) for batch in self.batches]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
        self._ends = list(accumulate(batch.num_rows for batch in self.batches))
        self._ragged: dict[tuple[int, str], RaggedColumn] = {}

    @property
    def num_rows(self) -> int:
        """Rows of all its record batches."""
        return self._ends[-1] if self._ends else 0

    def values(self, row: int, columns: Sequence[str]) -> list[Any]:
        """The values of one row, only those asked for being touched.

        Raises:
            DataError: the file was cut short since it was opened, and reading its end would kill this process.
        """
        check_size(self.path, self._part)
        number = bisect_right(self._ends, row)
        row -= self._ends[number] - self.batches[number].num_rows
        arrays = self._columns[number]
        return [arrays[name][row].as_py() for name in columns]

    def arrays(self, row: int, columns: Sequence[str]) -> list[np.ndarray | None]:
        """The values of one row in `ragged` columns, as read-only views of the mapped file: nothing is copied.

        Raises:
            DataError: the file was cut short since it was opened, or such a column holds nulls inside.
        """
        check_size(self.path, self._part)
        number = bisect_right(self._ends, row)
        row -= self._ends[number] - self.batches[number].num_rows
        return [self._ragged_column(number, name).row(row) for name in columns]

    def _ragged_column(self, number: int, name: str) -> RaggedColumn:
        if (number, name) not in self._ragged:
            try:
                self._ragged[number, name] = RaggedColumn(self._columns[number][name])
            except (pa.ArrowException, ValueError) as error:
                raise damaged(self.path, f"column {name!r}: {error}") from error
        return self._ragged[number, name]

    def column(self, name: str) -> list[pa.Array]:
        """One column, an array a record batch, nothing copied."""
        return [batch.column(name) for batch in self.batches]

    def check(self, part: ShardFile, schema: pa.Schema | None) -> None:
        """Validates every offset and every text, so that no later read can leave the file.

        Args:
            part: what `table.json` says of the file.
            schema: what the table's other shards have; None for the first.

        Raises:
            DataError: naming the file and what is wrong.
        """
        try:
            for batch in self.batches:
                batch.validate(full=True)
        except (pa.ArrowException, ValueError) as error:
            raise damaged(self.path, str(error)) from error
        if self.num_rows != part.rows:
            raise damaged(self.path, f"it has {self.num_rows} rows and table.json says {part.rows}")
        if schema is not None and not self.schema.equals(schema):
            raise damaged(self.path, "its columns are not those of the other shards")


def check_size(path: Path, part: ShardFile) -> None:
    """A file cut short would kill the process that reads its mapped pages, so its size is looked at first.

    Raises:
        DataError: the file is gone or has another size than `table.json` says.
    """
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - half the time, and it is asked for every row
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if size != part.bytes:
        raise damaged(path, f"it has {size:,} bytes and table.json says {part.bytes:,}")


def check_sum(path: Path, part: ShardFile) -> None:
    """Compares every byte of a file, which also sees damage inside pictures.

    Raises:
        DataError: its SHA-256 is not the one that `table.json` says.
    """
    if sha256_of(path) != part.sha256:
        raise damaged(path, "its SHA-256 is not the one in table.json")


def damaged(path: Path, why: str) -> DataError:
    """The error that names a file of a table which cannot be read."""
    return DataError(f"{path} is damaged: {why}; copy the table again from where it came, or import it again")
