"""One picture's regions as other systems write them, and what of them that leaves out."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np

from diptych.data.regions import Regions, RegionSpec, box_shares
from diptych.errors import DataError

SCORES = "scores"
"""What is said where a format leaves them out."""


def left_out(format: str, regions: Regions) -> set[str]:  # noqa: A002
    """What of one picture's regions the files of `format` do not hold, in words."""
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
            lost = {SCORES: True, **has}
        case "lxmert-tsv":
            lost = {SCORES: not _scores_are_probs(regions), **others, "soft labels": has["soft labels"]}
        case "oscar-tsv":
            lost = {"classes behind the likeliest": others["classes behind the likeliest"]}
            lost["soft labels"] = has["soft labels"]
        case _:
            lost = {"the pictures' sizes": regions.height_px is not None, "attributes": has["attributes"]}
            lost["classes"] = has["classes"] and not has["soft labels"]
            lost["digits of boxes and scores that float16 has not"] = True
    return {name for name, is_lost in lost.items() if is_lost and len(regions)}


def _scores_are_probs(regions: Regions) -> bool:
    """Whether the likeliest class's probability says the same, but for the digits that a store keeps of it."""
    return regions.class_probs is not None and np.allclose(regions.class_probs[:, 0], regions.scores, rtol=0, atol=1e-3)


def butd_row(key: str, regions: Regions, spec: RegionSpec) -> str:
    """The columns of bottom-up attention's TSV behind the key; in boxes there the last pixel is inside."""
    height, width = _size(key, regions)
    boxes = _text(_pixels(key, regions, spec, plus_one=True), "<f4")
    return f"{width}\t{height}\t{len(regions)}\t{boxes}\t{_text(regions.features, '<f4')}"


def lxmert_row(key: str, regions: Regions, spec: RegionSpec) -> str:
    """The columns of LXMERT's TSV behind the key; zeros where there are no attributes."""
    height, width = _size(key, regions)
    likeliest = _likeliest(regions)
    if likeliest is None:
        raise DataError(f"the regions of {key!r} have no classes, which LXMERT's TSV holds; write a butd-tsv")
    none = np.zeros((len(regions), 1))
    attributes = none if regions.attribute_ids is None else regions.attribute_ids
    probs = none if regions.attribute_probs is None else regions.attribute_probs
    cells = [
        _text(likeliest[0], "<i8"),
        _text(likeliest[1], "<f4"),
        _text(attributes[:, 0], "<i8"),
        _text(probs[:, 0], "<f4"),
        str(len(regions)),
        _text(_pixels(key, regions, spec), "<f4"),
        _text(regions.features, "<f4"),
    ]
    return "\t".join([str(height), str(width), *cells])


def oscar_features(key: str, regions: Regions, spec: RegionSpec) -> str:
    """The columns of Oscar's features behind the key."""
    numbers = np.concatenate([regions.features.astype(np.float32), _spatial(key, regions, spec)], axis=1)
    return f"{len(regions)}\t{_text(numbers, '<f4')}"


def oscar_labels(key: str, regions: Regions, spec: RegionSpec) -> str:
    """The column of Oscar's labels behind the key."""
    likeliest = _likeliest(regions)
    if likeliest is None or not spec.classes:
        raise DataError(f"the regions of {key!r} have no named classes, which Oscar's label file holds")
    height, width = _size(key, regions)
    boxes = _pixels(key, regions, spec)
    objects: list[dict[str, Any]] = [
        {"class": spec.classes[id_], "conf": float(prob), "rect": [float(side) for side in box]}
        for id_, prob, box in zip(*likeliest, boxes, strict=True)
    ]
    if not _scores_are_probs(regions):  # a field of ours, that Oscar does not look at
        for one, score in zip(objects, regions.scores, strict=True):
            one["score"] = float(score)
    if regions.attribute_ids is not None and regions.attribute_probs is not None and spec.attributes:
        for one, ids, probs in zip(objects, regions.attribute_ids, regions.attribute_probs, strict=True):
            one["attributes"] = [spec.attributes[id_] for id_ in ids]
            one["attr_scores"] = [float(prob) for prob in probs]
    return json.dumps({"image_h": height, "image_w": width, "objects": objects})


def npz(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    """UNITER's file, in float16."""
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


def _likeliest(regions: Regions) -> tuple[np.ndarray, np.ndarray] | None:
    """(R,) ids and probabilities of the likeliest class; of a picture without regions none, whatever it says."""
    if not len(regions):
        return np.zeros(0), np.zeros(0)
    if regions.class_ids is None or regions.class_probs is None:
        return None
    return regions.class_ids[:, 0], regions.class_probs[:, 0]


def _spatial(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 6): x0, y0, x1, y1, w, h as shares of the picture."""
    boxes = box_shares(key, regions, spec)
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def _pixels(key: str, regions: Regions, spec: RegionSpec, *, plus_one: bool = False) -> np.ndarray:
    """(R, 4) float32 in pixels; x1 and y1 are edges, or with `plus_one` the last pixels inside."""
    height, width = _size(key, regions)
    sides = np.array([width, height] * 2 if spec.box_unit == "unit" else [1] * 4, dtype=np.float32)
    boxes = regions.boxes * sides
    boxes[:, 2:] = np.maximum(boxes[:, 2:] + (spec.plus_one - plus_one), boxes[:, :2])
    return boxes


def _size(key: str, regions: Regions) -> tuple[int, int]:
    if regions.height_px is None or regions.width_px is None:
        raise DataError(f"the size of the picture {key!r} is not known, and this format holds it; write uniter-npz")
    return regions.height_px, regions.width_px


def _text(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
