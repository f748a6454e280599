"""How many regions a consumer was trained with: presets that say which model, and which of its weights, they match."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from diptych.data.region_files.uniter_values import num_kept
from diptych.data.regions import BoxKind, Regions, RegionSpec
from diptych.errors import UsageError, unknown

NAMES = ("uniter", "oscar", "fixed36")
FEATURE_WIDTH = 2048
NUM_CLASSES = 1600
COLOUR = "BGR"
"""Of bottom-up attention as released."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A consumer's number of regions. What it asks of the detector comes first, what is kept of that after it."""

    name: str
    consumer: str
    """Which model, and which weights of it."""
    detector: str
    """What these weights' features came from: a name of `systems.detectors`."""
    rule: Literal["butd", "lxmert"]
    """The rule of selection, of those of bottom-up attention."""
    thresholds: str
    """Its other numbers, as a spec tells them."""
    box_kind: BoxKind
    min_boxes: int
    """Fewest regions that the detector is asked for."""
    max_boxes: int
    """Most regions that the detector is asked for."""
    min_kept: int
    """Of those, the best are kept: at least so many."""
    max_kept: int
    above: float | None = None
    """Kept are regions whose score, rounded to float16, is above this; None: whatever the score."""

    def keep(self, regions: Regions) -> Regions:
        """The regions that the consumer reads; what there is where that is fewer than `min_kept`."""
        if self.above is None:
            return best(regions, self.max_kept)
        return best(regions, num_kept(regions.scores, self.above, self.min_kept, self.max_kept))

    def matched(self, spec: RegionSpec, detector: str) -> RegionSpec:
        """The spec, saying who reads such regions: nobody's released weights where they are of another kind."""
        if self._fits(spec, detector):
            return replace(spec, consumer=f"{self.consumer}, if the detector's weights are those of its features")
        return replace(spec, consumer=f"no released weights: the rule of {self.name} on {detector} features")

    def warning(self, spec: RegionSpec, detector: str) -> str | None:
        """What to say where the preset does not match what the detector gives."""
        if self._fits(spec, detector):
            return None
        return (
            f"The preset {self.name} is for {self.consumer}, whose weights know the features of {self.detector}:PATH "
            f"alone, {FEATURE_WIDTH:,} numbers by the rule {self.rule}. These are {spec.feature_width:,} numbers of "
            f"{detector} ({spec.feature_kind}) by {spec.rule}: train a model on them from the start; the store says so "
            "too"
        )

    def _fits(self, spec: RegionSpec, detector: str) -> bool:
        """By all that a spec tells; whether the weights are those that the consumer was trained with, it cannot."""
        return (
            detector == self.detector
            and spec.rule.startswith(f"{self.rule}(min={self.min_boxes}, max={self.max_boxes}, {self.thresholds}")
            and (spec.box_kind, spec.colour) == (self.box_kind, COLOUR)
            and spec.feature_width == FEATURE_WIDTH
            and len(spec.classes) in (0, NUM_CLASSES)
        )


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "uniter":
            return Preset(
                name=name,
                consumer="UNITER base and large, as released",
                detector="butd",
                rule="butd",
                thresholds="conf=0.2, nms=0.3)",
                box_kind="proposal",
                min_boxes=100,
                max_boxes=100,
                min_kept=10,
                max_kept=100,
                above=0.2,
            )
        case "oscar":
            return Preset(
                name=name,
                consumer="Oscar base and large, as released (not Oscar+, which reads VinVL's)",
                detector="butd",
                rule="butd",
                thresholds="conf=0.2, nms=0.3)",
                box_kind="proposal",
                min_boxes=10,
                max_boxes=100,
                min_kept=10,
                max_kept=50,
            )
        case "fixed36":
            return Preset(
                name=name,
                consumer="LXMERT and VisualBERT, as released for unc-nlp/frcnn-vg-finetuned",
                detector="butd",
                rule="lxmert",
                thresholds="nms=",
                box_kind="regressed",
                min_boxes=36,
                max_boxes=36,
                min_kept=36,
                max_kept=36,
            )
        case _:
            raise UsageError(unknown("preset", name, NAMES))


def best(regions: Regions, num: int) -> Regions:
    """The first `num`."""
    if num >= len(regions):
        return regions
    parts: dict[str, Any] = {part.name: getattr(regions, part.name) for part in fields(Regions)}
    cut: dict[str, Any] = {name: part[:num] for name, part in parts.items() if isinstance(part, np.ndarray)}
    return replace(regions, **cut)
