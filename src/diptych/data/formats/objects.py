"""Boxes with names, from the layouts that sources use to the one that tables use: corners in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

OBJECTS = pa.list_(
    pa.struct(
        [
            ("name", pa.string()),
            ("label", pa.int64()),
            ("x0", pa.float32()),
            ("y0", pa.float32()),
            ("x1", pa.float32()),
            ("y1", pa.float32()),
            ("crowd", pa.bool_()),
        ]
    )
)
"""The column `objects` of an imported table; a crowd is one box around many."""

CATEGORIES = ("category", "categories", "category_id", "label", "labels")
NAMES = ("category_name", "name", "names", "class_name")
CROWDS = ("iscrowd", "is_crowd", "crowd")


def one_object(
    box: Sequence[float], *, label: int | None, name: str | None, crowd: bool = False
) -> dict[str, Any] | None:
    """An object of a COCO box (x, y, width, height) in pixels; None where the box is no box."""
    if len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return None
    x, y, width, height = map(float, box)
    return {"name": name, "label": label, "x0": x, "y0": y, "x1": x + width, "y1": y + height, "crowd": crowd}


def objects_of(value: Any) -> list[dict[str, Any]] | None:
    """Objects from `{"bbox": [[x, y, width, height], ...], "category": [...]}`, the layout of the Hugging Face hub.

    Args:
        value: what a column `objects` holds; a category may be a number or a name.
    Returns:
        The objects, or None where `value` has another layout and should stay as it is.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("bbox"), Sequence):
        return None
    boxes = value["bbox"]
    categories = _column(value, CATEGORIES, len(boxes))
    names = _column(value, NAMES, len(boxes))
    crowds = _column(value, CROWDS, len(boxes))
    objects = []
    for box, category, name, crowd in zip(boxes, categories, names, crowds, strict=True):
        if not isinstance(box, Sequence):
            return None
        label = category if isinstance(category, int) else None
        word = name or (category if isinstance(category, str) else None)
        found = one_object(box, label=label, name=word, crowd=bool(crowd))
        if found is None:
            return None
        objects.append(found)
    return objects


def _column(value: Mapping[str, Any], names: Sequence[str], num: int) -> list[Any]:
    """The first of the parallel lists that is there and as long as the boxes are many; else Nones."""
    for name in names:
        if isinstance(value.get(name), list) and len(value[name]) == num:
            return list(value[name])
    return [None] * num
