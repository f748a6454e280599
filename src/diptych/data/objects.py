"""The objects of a picture: the column `objects` of a table, read as boxes with class and attribute numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from diptych.data.table import Rows
from diptych.errors import DataError

COLUMN = "objects"


@dataclass(frozen=True, kw_only=True)
class ObjectNames:
    """What a table's objects are called, and which of them are of no use."""

    classes: tuple[str, ...]
    """In the order of their labels where every name has one of its own, else by the alphabet."""
    attributes: tuple[str, ...]
    """By field, then by the alphabet."""
    objects: int
    """Those that are of use."""
    left_out: Mapping[str, int]
    """How many are not, by reason."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of one picture that are of use."""

    boxes: np.ndarray
    """(R, 4) float32: x0, y0, x1, y1 in pixels of the picture as it came, inside of it."""
    labels: np.ndarray
    """(R,) int64, from 0."""
    attributes: np.ndarray
    """(R, A) bool."""
    crowd: np.ndarray
    """(R,) bool: one box around many. Nothing is learned of it, and what is found in it is no mistake."""


def object_names(rows: Rows, fields: Sequence[str] = ()) -> ObjectNames:
    """The names in a table's column `objects`.

    Args:
        rows: of the split that is trained on.
        fields: of an object, whose words are its attributes: "colour", or a list of words as in "attributes".
    Raises:
        DataError: the table has no such column or field, or not an object of use in it.
    """
    labels: dict[str, set[int | None]] = {}
    words: dict[str, set[str]] = {field: set() for field in fields}
    left_out: Counter[str] = Counter()
    num = 0
    for one in _all_objects(rows, fields):
        reason = _why_useless(one)
        if reason is not None:
            left_out[reason] += 1
            continue
        num += 1
        labels.setdefault(name_of(one), set()).add(one.get("label"))
        for field in fields:
            words[field].update(_words(one[field]))
    if not num:
        raise DataError(f"not one object in {rows.path} {rows.name} has a box and a name; {_counted(left_out)}")
    attributes = [word for field in fields for word in sorted(words[field])]
    return ObjectNames(
        classes=_in_order(labels),
        attributes=tuple(dict.fromkeys(attributes)),
        objects=num,
        left_out=dict(left_out),
    )


def read_objects(
    objects: Sequence[Mapping[str, Any]] | None,
    *,
    width_px: int,
    height_px: int,
    classes: Mapping[str, int],
    attributes: Mapping[str, int],
    fields: Sequence[str] = (),
) -> Objects:
    """A picture's objects, clamped to it; left out is what has no box, no area in the picture, or no known name.

    Args:
        objects: the value of the column; None is none.
        width_px: of the picture, turned as its EXIF says.
        height_px: of the picture.
        classes: name -> label.
        attributes: word -> number.
        fields: see `object_names`.
    """
    corner = np.array([width_px, height_px, width_px, height_px], np.float32)
    kept: list[tuple[np.ndarray, int, list[int], bool]] = []
    for one in objects or ():
        label = classes.get(name_of(one))
        if label is None or _why_broken(one) is not None:
            continue
        box = np.clip(np.array(_corners(one), np.float32), 0, corner)
        if box[2] > box[0] and box[3] > box[1]:
            found = [attributes[word] for field in fields for word in _words(one.get(field)) if word in attributes]
            kept.append((box, label, found, bool(one.get("crowd"))))
    has = np.zeros((len(kept), len(attributes)), bool)
    for row, (_, _, found, _) in enumerate(kept):
        has[row, found] = True
    return Objects(
        boxes=np.array([box for box, *_ in kept], np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, *_ in kept], np.int64),
        attributes=has,
        crowd=np.array([crowd for *_, crowd in kept], bool),
    )


def learnt_objects(objects: Sequence[Mapping[str, Any]] | None) -> tuple[np.ndarray, list[Mapping[str, Any]]]:
    """(R, 4) float32 boxes as they came, in pixels, and the objects: of a picture's those that teach something."""
    kept = [one for one in objects or () if _why_useless(one) is None]
    return np.array([_corners(one) for one in kept], np.float32).reshape(-1, 4), kept


def name_of(one: Mapping[str, Any]) -> str:
    """What an object is called: its name, else its label as a word; "" without either."""
    name, label = one.get("name"), one.get("label")
    return str(name) if name else "" if label is None else str(label)


def _all_objects(rows: Rows, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    if COLUMN not in rows.columns:
        raise DataError(
            f"{rows.path} has no column {COLUMN!r} with boxes, from which a detector could learn. Import COCO's "
            "instances, or objects with bbox and category: docs/import.md"
        )
    column = rows.column(COLUMN)
    there = _fields_of(column.type)
    missing = [field for field in fields if field not in there]
    if missing:
        raise DataError(
            f"the objects of {rows.path} have no field {missing[0]!r}; they have {', '.join(there)}. Choose those "
            "whose words are attributes by --set model.attribute_fields=NAME,NAME, or [] for none"
        )
    for chunk in column.chunks:
        for objects in chunk:
            yield from objects.as_py() or ()


def _fields_of(type_: pa.DataType) -> list[str]:
    return [field.name for field in type_.value_type] if pa.types.is_struct(type_.value_type) else []


def _why_useless(one: Mapping[str, Any]) -> str | None:
    if one.get("crowd"):
        return "a crowd"
    return "without a name" if not name_of(one) else _why_broken(one)


def _why_broken(one: Mapping[str, Any]) -> str | None:
    corners = _corners(one)
    if not all(isinstance(side, int | float) and math.isfinite(side) for side in corners):
        return "a box that is no number"
    x0, y0, x1, y1 = corners
    return "a box without area" if x1 <= x0 or y1 <= y0 else None


def _corners(one: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    return one.get("x0"), one.get("y0"), one.get("x1"), one.get("y1")


def _words(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(word) for word in value] if isinstance(value, list) else [str(value)]


def _in_order(labels: Mapping[str, set[int | None]]) -> tuple[str, ...]:
    """Names by their labels, where these are one to one."""
    single = {name: next(iter(found)) for name, found in labels.items() if len(found) == 1}
    numbers = [number for number in single.values() if number is not None]
    if len(labels) == len(numbers) == len(set(numbers)):
        return tuple(sorted(single, key=lambda name: single[name] or 0))
    return tuple(sorted(labels))


def _counted(left_out: Mapping[str, int]) -> str:
    found = ", ".join(f"{num:,} {reason}" for reason, num in left_out.items())
    return f"left out: {found}" if found else "there are none at all"
