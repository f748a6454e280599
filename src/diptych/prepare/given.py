"""Boxes that a column of the table gives, as `detect` takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from diptych.data.table import Table
from diptych.errors import DataError, unknown
from diptych.prepare.boxes import whole_picture

CORNERS = ("x0", "y0", "x1", "y1")


def check_boxes_column(table: Table, column: str) -> None:
    """Sees that a column can hold boxes.

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    if column not in table.columns:
        raise DataError(f"{table.path}: {unknown('column', column, table.columns)}")
    if not _holds_boxes(table.columns[column]):
        raise DataError(
            f"the column {column!r} of {table.path} is {table.columns[column]}; expected a list of boxes in pixels, "
            f"each with {', '.join(CORNERS)}, as the column 'objects' of an import, or as four numbers"
        )


def boxes_of(value: Any, picture: Image.Image) -> np.ndarray:
    """The boxes of one row, (R, 4) float32; the whole picture where there are none.

    Raises:
        DataError: one has no four numbers.
    """
    if not value:
        return whole_picture(*picture.size)
    boxes = [[box[side] for side in CORNERS] if isinstance(box, dict) else box for box in value]
    for place, box in enumerate(boxes):
        if box is None or len(box) != len(CORNERS) or None in box:
            raise DataError(f"box {place} of {len(boxes)} is {box}; expected four numbers, x0, y0, x1, y1")
    return np.array(boxes, np.float32)


def _holds_boxes(column: pa.DataType) -> bool:
    if not _is_list(column):
        return False
    box = column.value_type
    if pa.types.is_struct(box):
        return all(box.get_field_index(side) >= 0 for side in CORNERS)
    return _is_list(box) and (pa.types.is_floating(box.value_type) or pa.types.is_integer(box.value_type))


def _is_list(column: pa.DataType) -> bool:
    return pa.types.is_list(column) or pa.types.is_large_list(column) or pa.types.is_fixed_size_list(column)
