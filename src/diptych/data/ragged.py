"""Columns of arrays whose rows differ in length, between NumPy and Arrow; reading copies nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def ragged(item: pa.DataType, width: int | None = None) -> pa.DataType:
    """The type of a column with an array (R, width), or (R,) without `width`, in each row, R being the row's own."""
    return pa.list_(item if width is None else pa.list_(item, width))


def column_of(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """A column of Python values, or of NumPy arrays where its type is a ragged one; None is null.

    Raises:
        ArrowException, TypeError, OverflowError, ValueError: a value is not of the type.
    """
    present = [value for value in values if value is not None]
    if not present or not all(isinstance(value, np.ndarray) for value in present):
        return pa.array(values, type=type_)
    lengths = [0 if value is None else len(value) for value in values]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    items = type_.value_type
    width = items.list_size if pa.types.is_fixed_size_list(items) else None
    for value in present:
        if value.ndim != (1 if width is None else 2) or (width is not None and value.shape[1] != width):
            raise ValueError(f"an array of shape {value.shape}")
    flat = np.concatenate([value.reshape(-1) for value in present])
    inner = pa.array(flat, type=items if width is None else items.value_type)
    if width is not None:
        inner = pa.FixedSizeListArray.from_arrays(inner, type=items)
    nulls = pa.array([value is None for value in values])
    return pa.ListArray.from_arrays(offsets, inner, type=type_, mask=nulls)


class RaggedColumn:
    """A ragged column of one record batch, whose rows are views of its buffers."""

    def __init__(self, column: pa.Array) -> None:
        """Touches no value.

        Raises:
            ArrowException, ValueError: the column is not ragged, or has nulls inside its arrays.
        """
        items = column.values
        shape: tuple[int, ...] = (-1,)
        if pa.types.is_fixed_size_list(items.type):
            shape = (-1, items.type.list_size)
            items = items.values
        self._values = items.to_numpy(zero_copy_only=True).reshape(shape)
        self._offsets = column.offsets.to_numpy(zero_copy_only=True)
        self._present = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None

    def row(self, row: int) -> np.ndarray | None:
        """The array of one row, read-only; None where it is null."""
        if self._present is not None and not self._present[row]:
            return None
        return self._values[self._offsets[row] : self._offsets[row + 1]]
