"""One split while it is written: rows into record batches, batches into shards, and the index at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from diptych.data.durable import flush_to_disk, sha256_of
from diptych.data.index import write_index
from diptych.data.layout import ShardFile, SplitFiles
from diptych.data.ragged import column_of
from diptych.data.shards import Shard
from diptych.errors import DataError

BATCH_BYTES = 32 << 20
"""Rows are handed to Arrow when their pictures and texts come to this much."""


class SplitWriter:
    """The shards of one split; the newest is still named *.tmp."""

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: pa.Schema,
        rows_per_shard: int,
        finished: Sequence[ShardFile] = (),
        *,
        first: int = 0,
    ) -> None:
        """Goes on behind the shards that are finished; the first one has the number `first`."""
        self._folder = folder
        self._name = name
        self._schema = schema
        self._rows_per_shard = rows_per_shard
        self._finished = list(finished)
        self._first = first
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._file: pa.ipc.RecordBatchFileWriter | None = None
        self._in_file = 0

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return sum(part.rows for part in self._finished) + self._in_file + len(self._rows)

    def add(self, row: dict[str, Any], size: int) -> None:
        """Takes one row of about `size` bytes."""
        self._rows.append(row)
        self._bytes += size
        if self._in_file + len(self._rows) == self._rows_per_shard:
            self._end_shard()
        elif self._bytes >= BATCH_BYTES:
            self._flush()

    def end(self) -> None:
        """Ends the shard at hand, if it has rows."""
        if self._in_file or self._rows:
            self._end_shard()

    def finish(self) -> SplitFiles:
        """Ends the last shard and writes the index."""
        self.end()
        name = f"{self._name}.index"
        path = self._folder / name
        write_index(path, self._all_keys(), self.num_rows)
        flush_to_disk(path)
        index = ShardFile(file=name, rows=self.num_rows, bytes=path.stat().st_size, sha256=sha256_of(path))
        return SplitFiles(rows=self.num_rows, shards=tuple(self._finished), index=index)

    def abandon(self) -> None:
        """Lets go of the unfinished shard."""
        if self._file is not None:
            with suppress(pa.ArrowException, OSError):
                self._file.close()

    def _flush(self) -> None:
        """Hands the rows at hand to Arrow."""
        rows, self._rows, self._bytes = self._rows, [], 0
        try:
            columns = [column_of([row.get(field.name) for row in rows], field.type) for field in self._schema]
            batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
            raise DataError(_wrong_value(rows, self._schema, error)) from error
        if self._file is None:
            self._file = pa.ipc.new_file(str(self._shard_path(".tmp")), self._schema)
        self._file.write_batch(batch)
        self._in_file += len(rows)

    def _end_shard(self) -> None:
        if self._rows:
            self._flush()
        assert self._file is not None
        # Taken away first: after Ctrl-C at any line below, `end` has nothing left to end, and the disk says what is in.
        file, rows, self._file, self._in_file = self._file, self._in_file, None, 0
        file.close()
        temporary, path = self._shard_path(".tmp"), self._shard_path("")
        flush_to_disk(temporary)
        temporary.rename(path)
        flush_to_disk(self._folder)
        part = ShardFile(file=path.name, rows=rows, bytes=path.stat().st_size, sha256=sha256_of(path))
        self._finished.append(part)

    def _shard_path(self, suffix: str) -> Path:
        return self._folder / f"{shard_name(self._name, self._first + len(self._finished))}{suffix}"

    def _all_keys(self) -> Iterator[str]:
        for part in self._finished:
            yield from keys_of(Shard(self._folder / part.file, part))


def shard_name(split: str, number: int) -> str:
    """The file of a shard."""
    return f"{split}-{number:05d}.arrow"


def keys_of(shard: Shard) -> Iterator[str]:
    """The keys of a shard, row by row."""
    for keys in shard.column("key"):
        yield from keys.to_pylist()


def _wrong_value(rows: list[dict[str, Any]], schema: pa.Schema, error: Exception) -> str:
    """Names the first row and column that do not fit."""
    for row in rows:
        for field in schema:
            try:
                column_of([row.get(field.name)], field.type)
            except (pa.ArrowException, TypeError, OverflowError, ValueError) as why:
                return f"row {row['key']!r}, column {field.name!r}: expected {field.type}, found {why}"
    return f"rows {rows[0]['key']!r} and after do not fit the table's columns: {error}"
