"""New regions beside old ones of the same pictures: do the boxes overlap, and do the features agree?"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from diptych.data.region_keys import match_keys
from diptych.data.regions import Regions, RegionSpec, RegionStore, box_edges, box_shares
from diptych.data.rejects import reason_of
from diptych.errors import DataError
from diptych.progress import SILENT, Progress

CLOSE = 0.5
"""IoU from which two boxes are of one thing, so that their features are compared."""
WORST, DAMAGE_TOLD = 10, 10
"""Pictures that are named."""


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

    @property
    def mean_iou(self) -> float:
        """1 where there is nothing to disagree about."""
        return float(self.iou.mean()) if len(self.iou) else 1.0


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
    """The pictures of the least mean IoU, WORST at most."""
    damaged: int
    """Pictures of which a row is damaged in either; they are counted nowhere else."""
    damage: Mapping[str, str]
    """Why, of the first of them."""
    keys: str
    """How the pictures of one were found in the other; of `region_keys.NAMES`."""


def compare_regions(
    new: RegionStore,
    old: RegionStore,
    *,
    keys: str | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Matches the boxes of each picture by IoU, and compares the features of the pairs; a damaged row costs itself.

    Args:
        new: ours.
        old: somebody's, of the same pictures.
        keys: how its keys are those of the new, see `match_keys`.
        limit: only so many pictures of the old.
        progress: sees pictures go by.

    Raises:
        DataError: they share no picture, none of them is whole, or their features are of different widths.
    """
    if new.spec.feature_width != old.spec.feature_width:
        raise DataError(
            f"features of {new.spec.feature_width} and of {old.spec.feature_width} numbers cannot be compared"
        )
    match = match_keys(new, old, keys)
    sums = _Sums()
    with progress.bar("Comparing", min(len(old), limit or len(old)), "pictures") as bar:
        for key in islice(old.keys(), limit):
            ours = match.of(key)
            if ours is None:
                sums.missing += 1
            else:
                sums.add(key, ours, new, old)
            bar.advance()
    return sums.result(match.rule)


class _Sums:
    """What a comparison is made of, and nothing of any picture beside the worst."""

    def __init__(self) -> None:
        self.missing = 0
        self._pictures = self._pairs = self._close = 0
        self._iou = self._cosine = 0.0
        self._worst: list[tuple[float, int, PictureComparison]] = []
        self._damaged = 0
        self._damage: dict[str, str] = {}

    def add(self, key: str, ours: str, new: RegionStore, old: RegionStore) -> None:
        """Compares one picture."""
        try:
            found = _compared(key, new, new.regions(ours), old, old.regions(key))
        except DataError as error:
            self._damaged += 1
            if len(self._damage) < DAMAGE_TOLD:
                self._damage[key] = reason_of(key, error)
            return
        self._pictures += 1
        self._pairs += len(found.iou)
        self._iou += float(found.iou.sum(dtype=np.float64))
        close = found.iou >= CLOSE
        self._close += int(close.sum())
        self._cosine += float(found.cosine[close].sum(dtype=np.float64))
        held = heapq.heappush if len(self._worst) < WORST else heapq.heappushpop
        held(self._worst, (-found.mean_iou, -self._pictures, found))

    def result(self, keys: str) -> Comparison:
        """The numbers."""
        if not self._pictures:
            first = next(iter(self._damage.items()), None)
            why = "none is in both" if first is None else f"{first[0]!r}: {first[1]}"
            raise DataError(f"of the {self.missing + self._damaged:,} pictures looked at none can be compared ({why})")
        return Comparison(
            pictures=self._pictures,
            missing=self.missing,
            mean_iou=_mean(self._iou, self._pairs),
            overlapping=_mean(self._close, self._pairs),
            mean_cosine=_mean(self._cosine, self._close),
            worst=tuple(one for _, _, one in sorted(self._worst, key=lambda held: held[:2], reverse=True)),
            damaged=self._damaged,
            damage=self._damage,
            keys=keys,
        )


def _mean(total: float, count: int) -> float:
    return total / count if count else float("nan")


def _compared(key: str, new: RegionStore, ours: Regions, old: RegionStore, theirs: Regions) -> PictureComparison:
    ours, theirs = _sized(ours, theirs), _sized(theirs, ours)
    iou = box_iou(_edges(key, ours, new.spec, old.spec), _edges(key, theirs, old.spec, new.spec))
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


def _edges(key: str, regions: Regions, spec: RegionSpec, other: RegionSpec) -> np.ndarray:
    """(R, 4) boxes up to their edges, as shares of the picture, or in what both have where its size is not known."""
    if regions.height_px is None and spec.box_unit == other.box_unit == "pixel":
        return regions.boxes + np.array([0, 0, spec.plus_one, spec.plus_one], dtype=np.float32)
    if regions.height_px is None and spec.plus_one == other.plus_one:
        return box_shares(key, regions, spec)
    return box_edges(key, regions, spec)


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
