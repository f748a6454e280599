"""One picture's regions as other systems write them, and what of them that leaves out.

Boxes keep their convention: only their unit changes, and the side file of an export says which convention it is. So a
network reads the same numbers, whether from the regions or from any export of them.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.region_rows import likeliest
from diptych.data.regions import BoxUnit, Regions, RegionSpec, box_shares
from diptych.errors import DataError

Row = Callable[[str, Regions, RegionSpec], bytes]
"""What one file says of a picture; raises DataError, which does not repeat the key, where that does not fit into it."""
NO_NAMES = "its classes have no names, which oscar-tsv holds"
SCORES = "scores"
"""What is said where a format leaves them out."""


def left_out(format: str, key: str, regions: Regions, spec: RegionSpec) -> set[str]:  # noqa: A002
    """What of one picture's regions the files of `format` do not hold, in words."""
    if not len(regions):
        return set()
    has = {
        "classes": regions.class_ids is not None,
        "attributes": regions.attribute_ids is not None,
        "soft labels": regions.soft_labels is not None,
    }
    others = {
        f"{name} behind the likeliest": ids is not None and ids.shape[1] > 1
        for name, ids in (("classes", regions.class_ids), ("attributes", regions.attribute_ids))
    }
    match format:
        case "butd-tsv":
            lost = {SCORES: spec.score_kind != "none", **has}
        case "lxmert-tsv":
            lost = {SCORES: not _scores_are_probs(with_likeliest(regions)), **others, "soft labels": has["soft labels"]}
        case "oscar-tsv":
            lost = {"classes behind the likeliest": others["classes behind the likeliest"]}
            lost["soft labels"] = has["soft labels"]
        case _:
            lost = {"the pictures' sizes": regions.height_px is not None, "attributes": has["attributes"]}
            lost["classes"] = has["classes"] and not has["soft labels"]
            numbers = (_spatial(key, regions, spec)[:, :4], regions.scores)
            lost["digits of boxes and scores that float16 has not"] = not all(map(_is_half, numbers))
    return {name for name, is_lost in lost.items() if is_lost}


def with_likeliest(regions: Regions) -> Regions:
    """With the likeliest class of the soft labels, where no classes are told apart from these."""
    if regions.class_ids is not None or regions.soft_labels is None or regions.soft_labels.shape[1] < 2:
        return regions
    ids, probs = likeliest(regions.soft_labels[:, 1:], 1)
    return replace(regions, class_ids=ids, class_probs=probs)


def _is_half(values: np.ndarray) -> bool:
    """Whether float16 says all of them."""
    return np.array_equal(values.astype(np.float16).astype(values.dtype), values)


def _scores_are_probs(regions: Regions) -> bool:
    """Whether the likeliest class's probability says the same, but for the digits that a store keeps of it."""
    return regions.class_probs is not None and np.allclose(regions.class_probs[:, 0], regions.scores, rtol=0, atol=1e-3)


def butd_row(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """A row of bottom-up attention's TSV."""
    height, width = _size(regions, spec)
    boxes = _text(_pixels(regions, spec), "<f4")
    return _row(key, str(width), str(height), str(len(regions)), boxes, _text(regions.features, "<f4"))


def lxmert_row(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """A row of LXMERT's TSV; zeros where there are no attributes."""
    height, width = _size(regions, spec)
    regions = with_likeliest(regions)
    first = _first(regions)
    if first is None:
        raise DataError("it has no classes, which lxmert-tsv holds")
    none = np.zeros((len(regions), 1))
    attributes = none if regions.attribute_ids is None else regions.attribute_ids
    probs = none if regions.attribute_probs is None else regions.attribute_probs
    return _row(
        key,
        str(height),
        str(width),
        _text(first[0], "<i8"),
        _text(first[1], "<f4"),
        _text(attributes[:, 0], "<i8"),
        _text(probs[:, 0], "<f4"),
        str(len(regions)),
        _text(_pixels(regions, spec), "<f4"),
        _text(regions.features, "<f4"),
    )


def oscar_features(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """A row of Oscar's features."""
    numbers = np.concatenate([regions.features.astype(np.float32), _spatial(key, regions, spec)], axis=1)
    return _row(key, str(len(regions)), _text(numbers, "<f4"))


def oscar_labels(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """A row of Oscar's labels; without rects, which are in pixels, where the picture's size is not known."""
    regions = with_likeliest(regions)
    first = _first(regions)
    if first is None:
        raise DataError("it has no classes, which oscar-tsv holds")
    if not spec.classes:
        raise DataError(NO_NAMES)
    objects: list[dict[str, Any]] = [
        {"class": spec.classes[id_], "conf": float(prob)} for id_, prob in zip(*first, strict=True)
    ]
    about: dict[str, Any] = {"objects": objects}
    if _has_size(regions):
        about = {"image_h": regions.height_px, "image_w": regions.width_px, **about}
        for one, box in zip(objects, _pixels(regions, spec), strict=True):
            one["rect"] = [float(side) for side in box]
    if not _scores_are_probs(regions):  # a field of ours, that Oscar does not look at
        for one, score in zip(objects, regions.scores, strict=True):
            one["score"] = float(score)
    if regions.attribute_ids is not None and regions.attribute_probs is not None and spec.attributes:
        for one, ids, probs in zip(objects, regions.attribute_ids, regions.attribute_probs, strict=True):
            one["attributes"] = [spec.attributes[id_] for id_ in ids]
            one["attr_scores"] = [float(prob) for prob in probs]
    return _row(key, json.dumps(about))


def npz(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """UNITER's file, in float16."""
    npz_name(key)
    arrays = {
        "norm_bb": _spatial(key, regions, spec),
        "features": regions.features,
        "conf": regions.scores[:, None],
    }
    if regions.soft_labels is not None:
        arrays["soft_labels"] = regions.soft_labels
    file = io.BytesIO()
    halves: dict[str, Any] = {name: value.astype(np.float16) for name, value in arrays.items()}
    np.savez_compressed(file, **halves)
    return file.getvalue()


def npz_name(key: str) -> str:
    """What UNITER's file of a picture is called.

    Raises:
        DataError: the key is no name of a file.
    """
    name = key if key.endswith(".npz") else f"{key}.npz"
    if Path(name).name != name or name.startswith(".") or "\0" in name:
        raise DataError("its key is no name of a file, and may not lead out of the folder")
    return name


ROWS: Mapping[str, Mapping[str, Row]] = {
    "butd-tsv": {"": butd_row},
    "lxmert-tsv": {"": lxmert_row},
    "uniter-npz": {"": npz},
    "oscar-tsv": {"features.tsv": oscar_features, "predictions.tsv": oscar_labels},
}
"""By format, the files in its folder and what writes their rows; "": it is no folder, or has a file a picture."""
BOX_UNITS: Mapping[str, BoxUnit] = {
    "butd-tsv": "pixel",
    "lxmert-tsv": "pixel",
    "uniter-npz": "unit",
    "oscar-tsv": "unit",
}


def _row(key: str, *cells: str) -> bytes:
    if not key or any(mark in key for mark in "\t\n\r") or key != key.strip():
        raise DataError("its key does not fit into a TSV; it is empty or has white space that would be lost")
    return ("\t".join([key, *cells]) + "\n").encode()


def _first(regions: Regions) -> tuple[np.ndarray, np.ndarray] | None:
    """(R,) ids and probabilities of the likeliest class; of a picture without regions none, whatever it says."""
    if not len(regions):
        return np.zeros(0), np.zeros(0)
    if regions.class_ids is None or regions.class_probs is None:
        return None
    return regions.class_ids[:, 0], regions.class_probs[:, 0]


def _spatial(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 6): x0, y0, x1, y1, x1 - x0, y1 - y0 as shares of the picture."""
    if not len(regions):
        return np.zeros((0, 6), dtype=np.float32)
    if spec.box_unit == "pixel":
        _size(regions, spec)
    boxes = box_shares(key, regions, spec)
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def _pixels(regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 4) in pixels."""
    height, width = _size(regions, spec)
    sides = np.array([width, height] * 2 if spec.box_unit == "unit" else [1] * 4, dtype=np.float32)
    return regions.boxes * sides


def _has_size(regions: Regions) -> bool:
    return regions.height_px is not None and regions.width_px is not None


def _size(regions: Regions, spec: RegionSpec) -> tuple[int, int]:
    if regions.height_px is not None and regions.width_px is not None:
        return regions.height_px, regions.width_px
    if spec.box_unit == "unit":
        raise DataError("the size of the picture is not known, and this format has columns of it")
    raise DataError(
        "its boxes are in pixels of a picture whose size is not known, and every format holds the size or shares of it"
    )


def _text(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
