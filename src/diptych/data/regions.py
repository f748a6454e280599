"""Regions of a picture as every part hands them on: what was found, and what it was found with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from diptych.errors import DataError

BoxKind = Literal["proposal", "regressed", "window", "given"]
BoxUnit = Literal["pixel", "unit"]
Colour = Literal["RGB", "BGR"]
ScoreKind = Literal["rule", "class", "none"]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The regions of one picture, the best first.

    R regions, F numbers a feature, C classes, A attributes, K classes kept. Arrays may be read-only views of mapped
    files. A part that the detector does not give is None.
    """

    height_px: int | None
    """Of the picture as it came, turned as its EXIF says; None where a file does not tell."""
    width_px: int | None
    boxes: np.ndarray
    """(R, 4) float32: x0, y0, x1, y1 in the unit and convention of the `RegionSpec`."""
    features: np.ndarray
    """(R, F) float32 from a detector, float16 from a store."""
    scores: np.ndarray
    """(R,) float32: the confidence that the rule of selection ordered the regions by; 1 for windows and given boxes."""
    class_ids: np.ndarray | None = None
    """(R, K) int32, the likeliest first, counted from 0 without background."""
    class_probs: np.ndarray | None = None
    """(R, K) float16 or float32, of the softmax over classes and background."""
    soft_labels: np.ndarray | None = None
    """(R, 1 + C): the whole softmax, background first."""
    attribute_ids: np.ndarray | None = None
    """(R, K) int32, the likeliest first, counted from 0 without "no attribute"."""
    attribute_probs: np.ndarray | None = None
    """(R, K)."""

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True)
class RegionSpec:
    """What regions were made with, carried by every store; two stores of unequal specs are not mixed."""

    detector: str
    """For people, e.g. "bottom-up attention, R101-C4"."""
    detector_hash: str
    """SHA-256 of the weights and what the network is built by; "" where a foreign file does not tell."""
    rule: str
    """The rule of selection with its numbers, e.g. "butd(min=10, max=100, conf=0.2, nms=0.3)"."""
    consumer: str = ""
    """Which model, and which weights of it, the rule and the preprocessing match, e.g. "uniter-base, released"."""
    feature_kind: str
    """Where the vectors come from, e.g. "c4-mean", "fpn-box-head", "roialign of vit_b_32"; or "unknown"."""
    feature_width: int
    classes: tuple[str, ...] = ()
    """Names in the order of class ids; () where none are given."""
    attributes: tuple[str, ...] = ()
    box_kind: BoxKind
    """Which box is written: the feature is always the proposal's."""
    box_unit: BoxUnit = "pixel"
    """Pixels of the picture as it came, or shares of its width and height."""
    plus_one: bool = False
    """True where x1 and y1 are the last pixels inside, as in the original Caffe code: the width is x1 - x0 + 1.

    In shares of the picture too: what changes the unit keeps the convention."""
    colour: Colour = "RGB"
    """The order of channels that the network was fed."""
    score_kind: ScoreKind = "rule"
    """What the scores are: the confidence that the rule ordered by; the probability of the class, of a file that holds
    no other; or 1, of windows, of given boxes, and of a file that holds none."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> RegionSpec:
        """What `asdict` made, after it went through JSON.

        Raises:
            TypeError, KeyError: it is no such mapping.
        """
        return cls(**{**told, **{name: tuple(told[name]) for name in ("classes", "attributes")}})

    def digest(self) -> str:
        """Of all of it: what a store that is gone on with must agree in."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def box_shares(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 4) float32: x0, y0, x1, y1 as shares of the picture's width and height, in whatever unit they came.

    The convention stays that of the spec: with `plus_one` x1 is where the last pixel begins, as in UNITER's and Oscar's
    own files, which divide the coordinates of bottom-up attention as they are.

    Raises:
        DataError: they are in pixels, and how large the picture is is not known.
    """
    boxes = regions.boxes.astype(np.float32, copy=False)
    if spec.box_unit == "unit":
        return boxes
    if regions.height_px is None or regions.width_px is None:
        raise DataError(
            f"the boxes of {key!r} are in pixels, and these regions do not say how large the picture is; extract them "
            "anew, or take files that say it"
        )
    return boxes / np.array([regions.width_px, regions.height_px] * 2, dtype=np.float32)


def box_edges(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 4) float32: the same, but x1 and y1 are where the box ends, whatever the convention.

    Raises:
        DataError: how large the picture is is not known, and a pixel or the boxes have to be measured by it.
    """
    shares = box_shares(key, regions, spec)
    if not spec.plus_one:
        return shares
    if regions.height_px is None or regions.width_px is None:
        raise DataError(
            f"the boxes of {key!r} go up to their last pixels, and these regions do not say how large the picture is"
        )
    return shares + np.array([0, 0, 1 / regions.width_px, 1 / regions.height_px], dtype=np.float32)


class RegionDetector(Protocol):
    """Pictures to regions: a detector, windows, or boxes that are given."""

    @property
    def spec(self) -> RegionSpec:
        """What all its regions are made with."""

    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """The regions of each picture; one is computed as if it came alone.

        Args:
            pictures: as `data.images.decode` gives them, in any mode.
            given: for each picture (R, 4) float32 boxes in its pixels, of which features are wanted, instead of the
                detector's own.
        Raises:
            DataError: of a picture or box that cannot be used; the message says why.
        """


class RegionStore(Protocol):
    """Regions by key: a store of ours, or files that others made, read in place. Pickled as a path; spawn-safe."""

    path: Path
    spec: RegionSpec

    def __len__(self) -> int:
        """Pictures."""

    def __contains__(self, key: str) -> bool:
        """Whether there are regions of `key`."""

    def keys(self) -> Iterator[str]:
        """In the order they are stored."""

    def regions(self, key: str) -> Regions:
        """The regions of one picture.

        Raises:
            DataError: there are none of this key, or its row is damaged.
        """
