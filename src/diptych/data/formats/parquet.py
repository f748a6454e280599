"""Parquet: a file or a folder of shards, pictures as bytes, as the hub's {bytes, path}, or as paths."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.formats.columns import Roles, find_roles, record_of
from diptych.data.formats.lists import key_of_path
from diptych.data.formats.places import Pictures, files_below, files_near, relative_name
from diptych.data.formats.record import Record, split_of_place
from diptych.data.rejects import Reject
from diptych.errors import DataError

ROWS_AT_ONCE = 64
BUFFER_BYTES = 1 << 20
"""Read ahead within a row group, which may be larger than memory."""


def sniff(source: Path) -> bool:
    """Whether `source` is such a file, or a folder with some below it."""
    return any(file.suffix == ".parquet" for file in ([source] if source.is_file() else files_near(source)))


def label_names(source: Path) -> list[str]:
    """The names of the label's classes, where the schema carries the types of `datasets`; else none."""
    for file in _files(source):
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError):
            continue
        label = find_roles(tuple(schema.names), embedded=True).label
        if label is not None:
            return class_names(schema.metadata or {}, label)
    return []


def class_names(metadata: Mapping[bytes, bytes], label: str) -> list[str]:
    """The class names of a column, from the metadata that `datasets` writes into a schema."""
    try:
        return list(json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return []


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of every file in order of its name; a damaged file or row group costs itself.

    Raises:
        DataError: there is no file, or a file has no column of pictures.
    """
    root = source.parent if source.is_file() else source
    files = list(_files(source))
    if not files:
        raise DataError(f"{source} has no .parquet file in it")
    for file in files:
        name = relative_name(file, root)
        try:
            with pq.ParquetFile(file, buffer_size=BUFFER_BYTES) as opened:
                split = split_of_place(file, root, file.stem)
                yield from _rows(opened, name, split, Pictures(root, split=split), pictures)
        except (pa.ArrowException, OSError) as error:
            yield Reject(name, name, f"damaged Parquet: {_first_line(error)}")


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    else:
        yield from (path for path in files_below(source) if path.suffix == ".parquet" and path.is_file())


def _rows(
    opened: pq.ParquetFile, name: str, split: str | None, files: Pictures, pictures: bool
) -> Iterator[Record | Reject]:
    schema = opened.schema_arrow
    roles = find_roles(tuple(schema.names), embedded=True)
    if roles.picture is None:
        raise DataError(
            f"{name} has no column of pictures; its columns are {', '.join(schema.names)}; "
            "expected one such as image, image_path or file_name"
        )
    picture, roles = roles.picture, narrowed(roles, schema)
    columns = roles.used() if pictures else _without_bytes(schema, picture, roles.used(picture=False))
    number = 0
    for group in range(opened.num_row_groups):
        first, number = number, number + opened.metadata.row_group(group).num_rows
        try:
            for batch in opened.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                for row in _plain_rows(batch):
                    if row is None:
                        yield Reject(f"{name} row {first}", f"{name} row {first}", "it has text that is not UTF-8")
                    else:
                        yield row_record(row, roles, files, number=first, name=name, split=split, pictures=pictures)
                    first += 1
        except (pa.ArrowException, OSError) as error:
            where = f"rows {first} to {number - 1} of {name}"
            yield Reject(where, where, f"damaged Parquet: {_first_line(error)}")


def _plain_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """The rows as Python values; None for one with text that is not UTF-8, which Parquet does not check."""
    for number in range(batch.num_rows):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield None


def row_record(
    row: Mapping[str, Any],
    roles: Roles,
    files: Pictures,
    *,
    number: int,
    name: str,
    split: str | None,
    pictures: bool,
) -> Record | Reject:
    """The record of a row whose picture is bytes, {bytes, path} or a path.

    Args:
        row: values by column.
        roles: of the columns.
        files: where paths lead, for rows without bytes.
        number: of the row in `name`.
        name: of the file or split.
        split: of the file.
        pictures: whether the bytes were read.
    """
    source = f"{name} row {number}"
    value = row.get(roles.picture) if roles.picture is not None else None
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, str):
        data, path = None, data
    path = path if isinstance(path, str) and path.strip() else None
    if pictures and data is None and path is None:
        return Reject(source, source, "the picture is missing")
    embedded = isinstance(data, bytes) or (not pictures and not isinstance(value, str))
    try:
        found = None if embedded or path is None else files.find(path)
        key = path if found is None or path is None else key_of_path(path, found, files)
        return record_of(
            row,
            roles,
            image=data if found is None else found,
            path=key,
            number=source,
            source=source,
            split=split,
            spare_key=source if embedded else None,
        )
    except DataError as error:
        return Reject(str(path or source), source, str(error))


def is_plain(type_: pa.DataType) -> bool:
    """Whether a column is kept: text, numbers, and lists and structures of these."""
    if pa.types.is_struct(type_):
        return type_.num_fields > 0 and all(is_plain(field.type) for field in type_)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return is_plain(type_.value_type)
    if pa.types.is_dictionary(type_):
        return is_plain(type_.value_type)
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
    )
    return any(check(type_) for check in checks)


def _without_bytes(schema: pa.Schema, picture: str, rest: list[str]) -> list[str]:
    """The columns `rest`, and of the pictures no more than their paths."""
    type_ = schema.field(picture).type
    if pa.types.is_struct(type_):
        return [*rest, *(f"{picture}.{field.name}" for field in type_ if field.name == "path")]
    return rest if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) else [picture, *rest]


def narrowed(roles: Roles, schema: pa.Schema) -> Roles:
    """The same roles with the own columns that are plain."""
    return replace(roles, own=tuple(name for name in roles.own if is_plain(schema.field(name).type)))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
