"""The Arrow types of a source's own columns, found by looking at every value once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from diptych.data.formats.objects import OBJECTS

ROWS_AT_ONCE = 512
MAX_COLUMNS = 256
"""Own columns that are kept, in the order they are first seen."""
ODD = (pa.ArrowException, TypeError, ValueError, OverflowError)


class ColumnTypes:
    """Types that every value seen fits; a column of mixed types becomes text."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._mixed: set[str] = set()
        self._waiting: dict[str, list[Any]] = {}
        self.left_out: set[str] = set()
        """Columns beyond MAX_COLUMNS."""

    def see(self, fields: Mapping[str, Any]) -> None:
        """Takes the values of one row."""
        for name, value in fields.items():
            if name not in self._waiting and len(self._waiting) >= MAX_COLUMNS:
                self.left_out.add(name)
                continue
            waiting = self._waiting.setdefault(name, [])
            if value is not None:
                waiting.append(value)
            if len(waiting) >= ROWS_AT_ONCE:
                self._settle(name)

    def types(self) -> dict[str, pa.DataType]:
        """The columns that have any value, with their types."""
        for name in list(self._waiting):
            self._settle(name)
        found = {name: _without_null(self._types[name]) for name in self._waiting if name in self._types}
        return {name: OBJECTS if name == "objects" and _are_objects(type_) else type_ for name, type_ in found.items()}

    def value(self, name: str, value: Any) -> Any:
        """A value as its column holds it."""
        if name not in self._mixed or value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)

    def _settle(self, name: str) -> None:
        values, self._waiting[name] = self._waiting[name], []
        if not values or name in self._mixed:
            return
        try:
            seen = pa.array(values).type  # infer_type overlooks some mixtures
            if not _is_storable(seen):
                raise TypeError(f"{seen} is no type of a table")
            self._types[name] = _unified(self._types[name], seen) if name in self._types else seen
        except ODD:
            self._mixed.add(name)
            self._types[name] = pa.string()


def _unified(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that values of both fit."""
    if one.equals(other):
        return one
    schemas = [pa.schema([("column", type_)]) for type_ in (one, other)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("column").type


def _is_storable(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        return type_.num_fields > 0 and all(_is_storable(field.type) for field in type_)
    if pa.types.is_list(type_):
        return _is_storable(type_.value_type)
    checks = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(check(type_) for check in checks)


def _without_null(type_: pa.DataType) -> pa.DataType:
    """The same with text where only empty lists were seen, since an own column needs a type."""
    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_without_null(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(field.name, _without_null(field.type)) for field in type_])
    return type_


def _are_objects(type_: pa.DataType) -> bool:
    """Whether a column is objects as `objects_of` makes them, or has only empty lists."""
    if not pa.types.is_list(type_):
        return False
    if not pa.types.is_struct(type_.value_type):
        return pa.types.is_string(type_.value_type)
    return {field.name for field in type_.value_type} == {field.name for field in OBJECTS.value_type}
