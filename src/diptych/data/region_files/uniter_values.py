"""One picture as UNITER stores it: a compressed npz, or a msgpack map of arrays. Both are decoded without pickle."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from diptych.data.region_files.old_store import made_by
from diptych.data.regions import Regions, RegionSpec
from diptych.data.rejects import in_words
from diptych.errors import require_extra

FIELDS = ("features", "norm_bb", "conf", "soft_labels")
ZIP = b"PK"
"""What an npz begins with."""
MAX_BYTES = 1 << 28
"""Of one picture, unpacked; a hundred regions take 0.8 MB."""


def regions_of(value: bytes, num: int | None = None) -> Regions:
    """The regions of a stored value, or the first `num` of them.

    Raises:
        ValueError, KeyError: it is damaged, or holds objects.
    """
    return npz_regions(value, num) if value[:2] == ZIP else _regions(msgpack_fields(value), num)


def npz_regions(value: bytes, num: int | None = None) -> Regions:
    """Likewise of an npz alone, for which no other package is needed.

    Raises:
        ValueError, KeyError: it is none, is damaged, or holds objects.
    """
    return _regions(npz_fields(value), num)


def _regions(fields: Mapping[str, np.ndarray], num: int | None) -> Regions:
    for name, values in fields.items():
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{name} is an array of {values.dtype}; expected numbers")
        if values.ndim != 2 and name != "conf":
            raise ValueError(f"{name} has the shape {values.shape}; expected a row a region")
    boxes = fields["norm_bb"][:num, :4].astype(np.float32)
    return Regions(
        height_px=None,
        width_px=None,
        boxes=boxes,
        features=fields["features"][:num],
        scores=fields["conf"].reshape(-1)[:num].astype(np.float32),
        soft_labels=fields["soft_labels"][:num] if "soft_labels" in fields else None,
    )


def npz_fields(value: bytes) -> dict[str, np.ndarray]:
    """The known fields of an npz; others, such as a stray `allow_pickle`, are not looked at.

    Raises:
        ValueError: it is no whole npz, or holds objects.
    """
    if value[:2] != ZIP:
        raise ValueError("no whole npz: " + ("it does not begin as a zip archive" if value else "it is empty"))
    try:
        with zipfile.ZipFile(io.BytesIO(value)) as names:
            if sum(part.file_size for part in names.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES:,} bytes unpacked")
        with np.load(io.BytesIO(value), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in FIELDS if name in arrays.files}
    except Exception as error:  # damaged ones raise zlib.error, RuntimeError, TokenError and more
        raise ValueError(f"no whole npz: {in_words(error)}") from error


def msgpack_fields(value: bytes) -> dict[str, np.ndarray]:
    """The known fields of a msgpack-numpy map, each array decoded by hand.

    Raises:
        ValueError: it is no such map, or holds objects.
    """
    require_extra("msgpack", "legacy", "reading UNITER's image databases")
    import msgpack

    try:
        found = msgpack.unpackb(value, raw=True, strict_map_key=False)
        return {name: _array(found[name.encode()]) for name in FIELDS if name.encode() in found}
    except Exception as error:
        raise ValueError(f"no msgpack map of arrays: {in_words(error)}") from error


def _array(told: Mapping[bytes, Any]) -> np.ndarray:
    kind = told[b"type"]
    dtype = np.dtype(kind.decode())
    if told.get(b"kind") or dtype.kind not in "fiub":
        raise ValueError(f"an array of {kind!r}; expected numbers")
    shape = [int(side) for side in told[b"shape"]]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(told[b"data"]):
        raise ValueError(f"{len(told[b'data']):,} bytes for an array of shape {shape}")
    return np.frombuffer(told[b"data"], dtype).reshape(shape)


def num_kept(scores: np.ndarray, threshold: float = 0.2, least: int = 10, most: int = 100) -> int:
    """How many of the regions, best first, UNITER reads: those above the threshold, `least` and `most` at the ends.

    Compared in float16, as its converter and reader do.
    """
    above = int((scores.astype(np.float16) > np.float16(threshold)).sum())
    return min(len(scores), most, max(least, above))


def num_soft_labels(regions: Regions) -> int:
    """Classes and background of a picture; 0 where it has none."""
    return 0 if regions.soft_labels is None else regions.soft_labels.shape[1]


def spec_of(first: Regions) -> RegionSpec:
    """What UNITER's extractor is known to do; widths are those of a first picture."""
    width = first.features.shape[1]
    detector, kind = made_by(width, "bottom-up attention, R101-C4")
    return RegionSpec(
        detector=detector,
        detector_hash="",
        rule="butd(min=100, max=100)",
        consumer="uniter, released",
        feature_kind=kind,
        feature_width=width,
        box_kind="proposal",
        box_unit="unit",
        plus_one=False,
        colour="BGR",
    )
