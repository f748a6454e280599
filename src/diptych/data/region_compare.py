"""New regions beside old ones of the same pictures: do the boxes overlap, and do the features agree?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diptych.data.regions import Regions, RegionSpec, RegionStore
from diptych.errors import DataError
from diptych.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class PictureComparison:
    """Of one picture: best pairs of boxes, each box in one pair at most."""

    key: str
    num_new: int
    num_old: int
    iou: np.ndarray
    """(M,) of the matched pairs, M the lesser number."""
    cosine: np.ndarray
    """(M,) of their features."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of two stores, over the pictures that both have."""

    pictures: int
    missing: int
    """Pictures of the old that the new lacks."""
    mean_iou: float
    overlapping: float
    """Share of the pairs whose boxes overlap by an IoU of 0.5 or more."""
    mean_cosine: float
    """Of the features of overlapping pairs; NaN where there is none."""
    worst: tuple[PictureComparison, ...]
    """The ten pictures of the least mean IoU."""


def compare_regions(
    new: RegionStore, old: RegionStore, *, limit: int | None = None, progress: Progress = SILENT
) -> Comparison:
    """Matches the boxes of each picture by IoU, and compares the features of the pairs.

    Args:
        new: ours.
        old: somebody's, of the same pictures under the same keys.
        limit: only so many pictures of the old.
        progress: sees pictures go by.

    Raises:
        DataError: they share no picture, or their features are of different widths.
    """
    if new.spec.feature_width != old.spec.feature_width:
        raise DataError(
            f"features of {new.spec.feature_width} and of {old.spec.feature_width} numbers cannot be compared"
        )
    found: list[PictureComparison] = []
    missing = 0
    with progress.bar("Comparing", min(len(old), limit or len(old)), "pictures") as bar:
        for number, key in enumerate(old.keys()):
            if number == limit:
                break
            if key in new:
                found.append(_compared(key, new, old))
            else:
                missing += 1
            bar.advance()
    if not found:
        raise DataError(
            f"{new.path} and {old.path} share no picture: their keys are like "
            f"{next(new.keys(), None)!r} and {next(old.keys(), None)!r}"
        )
    iou, cosine = (np.concatenate([getattr(one, name) for one in found]) for name in ("iou", "cosine"))
    close = iou >= 0.5
    found.sort(key=lambda one: float(one.iou.mean()) if len(one.iou) else 1.0)
    return Comparison(
        pictures=len(found),
        missing=missing,
        mean_iou=float(iou.mean()) if len(iou) else float("nan"),
        overlapping=float(close.mean()) if len(iou) else float("nan"),
        mean_cosine=float(cosine[close].mean()) if close.any() else float("nan"),
        worst=tuple(found[:10]),
    )


def _compared(key: str, new: RegionStore, old: RegionStore) -> PictureComparison:
    ours, theirs = new.regions(key), old.regions(key)
    ours, theirs = _sized(ours, theirs), _sized(theirs, ours)
    iou = box_iou(unit_boxes(key, ours, new.spec), unit_boxes(key, theirs, old.spec))
    pairs = matched(iou)
    mine, yours = (ours.features[pairs[:, 0]].astype(np.float32), theirs.features[pairs[:, 1]].astype(np.float32))
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(yours, axis=1)
    return PictureComparison(
        key=key,
        num_new=len(ours),
        num_old=len(theirs),
        iou=iou[pairs[:, 0], pairs[:, 1]],
        cosine=(mine * yours).sum(axis=1) / np.maximum(norms, 1e-12),
    )


def _sized(regions: Regions, other: Regions) -> Regions:
    """A file that does not tell the picture's size takes that of the other."""
    if regions.height_px is not None:
        return regions
    return replace(regions, height_px=other.height_px, width_px=other.width_px)


def unit_boxes(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 4) boxes as shares of the picture, x1 and y1 being where the box ends, whatever the convention.

    Raises:
        DataError: they are in pixels of a picture whose size is not known.
    """
    if spec.box_unit == "unit":
        return regions.boxes
    if regions.width_px is None or regions.height_px is None:
        raise DataError(f"the size of the picture {key!r} is not known, so its boxes have no common unit")
    ends = regions.boxes + np.array([0, 0, spec.plus_one, spec.plus_one], dtype=np.float32)
    return ends / np.array([regions.width_px, regions.height_px] * 2, dtype=np.float32)


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(R, S) intersection over union of (R, 4) and (S, 4) boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return inside / np.maximum(areas[0][:, None] + areas[1][None, :] - inside, 1e-12)


def matched(iou: np.ndarray) -> np.ndarray:
    """(M, 2) pairs of rows and columns whose IoUs have the greatest sum, each in one pair at most."""
    from scipy.optimize import linear_sum_assignment

    return np.stack(linear_sum_assignment(-iou), axis=1)
