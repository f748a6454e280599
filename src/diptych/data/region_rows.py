"""The columns of a store of regions, and a picture's row of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from diptych.data.ragged import ragged
from diptych.data.region_checks import check_regions
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError

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


class RegionRows:
    """What a store keeps of each picture's regions."""

    def __init__(
        self,
        spec: RegionSpec,
        *,
        num_classes_kept: int = 5,
        num_attributes_kept: int = 3,
        soft_labels: bool = False,
        num_soft_labels: int | None = None,
    ) -> None:
        """As `RegionWriter` has them."""
        self._spec = spec
        self._classes = _fewer(num_classes_kept, len(spec.classes) or (num_soft_labels or 1) - 1)
        self._attributes = _fewer(num_attributes_kept, len(spec.attributes))
        self._softmax = (num_soft_labels or 1 + len(spec.classes)) if soft_labels else 0

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """By name."""
        return column_types(self._spec, self._classes, self._attributes, self._softmax)

    def row(self, key: str, regions: Regions) -> dict[str, Any]:
        """The values for one picture.

        Raises:
            DataError: the regions are not as they should be; the message names the picture.
        """
        check_regions(key, regions, self._spec)
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
        return row


def likeliest(probs: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The `num` likeliest of (R, C) with their probabilities, both (R, num), best first; ties by the lower id."""
    num = min(num, probs.shape[1])
    found = np.sort(np.argpartition(-probs, num - 1, axis=1)[:, :num], axis=1)
    order = np.argsort(-np.take_along_axis(probs, found, axis=1), axis=1, kind="stable")
    ids = np.take_along_axis(found, order, axis=1)
    return ids.astype(np.int32), np.take_along_axis(probs, ids, axis=1)


def _fewer(num: int, there: int) -> int:
    """`num`, or what there are where that is fewer; 0: not known."""
    return min(num, there) if there else num


def column_types(spec: RegionSpec, classes: int, attributes: int, softmax: int) -> dict[str, pa.DataType]:
    """The own columns of a store, told how many classes, attributes and soft labels of a region it keeps."""
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
