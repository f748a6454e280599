"""Which of the proposals become regions: the rules of the releases, each with its numbers.

A region's feature belongs to its proposal under every rule. All of them order by confidence, ties by the number of the
proposal, and return what there is where that is fewer than the smallest number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diptych.data.regions import BoxKind
from diptych.detector.boxes import nms
from diptych.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The proposals of one picture, and what is known of them. R proposals, C classes."""

    boxes: Tensor
    """(R, 4) in resized pixels."""
    class_probs: Tensor
    """(R, 1 + C), background first."""
    regress: Callable[[Tensor, Tensor], Tensor]
    """(n,) rows and (n,) classes, from 0 without background, to (n, 4) boxes, regressed and clipped: on demand only."""
    scale: Tensor
    """(4,) resized pixels to a pixel of the picture, for x0, y0, x1, y1."""
    plus_one: bool = False


@dataclass(frozen=True)
class Selected:
    """The regions of one picture. S regions."""

    rows: Tensor
    """(S,) which proposal; rule A may take one twice."""
    class_ids: Tensor
    """(S,) from 0 without background."""
    scores: Tensor
    """(S,) the confidence that the rule ordered by."""


class Rule(Protocol):
    """A rule of selection."""

    @property
    def box_kind(self) -> BoxKind:
        """Which box its release writes beside the feature."""

    def select(self, found: Candidates) -> Selected:
        """The regions, best first."""


@dataclass(frozen=True, kw_only=True)
class ButdRule:
    """Rule B, of the original code and of UNITER's features: per-class suppression of proposals.

    A proposal's confidence is the probability of the likeliest class in which no better one overlaps it.
    """

    min_boxes: int = 10
    max_boxes: int = 100
    confidence: float = 0.2
    """Those from here on are kept, unless they are too few or too many."""
    nms: float = 0.3
    release_order: bool = False
    """In the order of proposals where neither limit acted, as the release wrote its rows."""
    box_kind: BoxKind = "proposal"

    def __post_init__(self) -> None:
        _check_numbers(self.min_boxes, self.max_boxes, confidence=(self.confidence,), nms=(self.nms,))

    def __str__(self) -> str:
        return f"butd(min={self.min_boxes}, max={self.max_boxes}, conf={self.confidence}, nms={self.nms})"

    def select(self, found: Candidates) -> Selected:
        """The confident ones, at least `min_boxes` and at most `max_boxes`."""
        scores = self._confidences(found)
        confident = int((scores >= self.confidence).sum())
        rows = scores.argsort(descending=True, stable=True)[: min(max(confident, self.min_boxes), self.max_boxes)]
        if self.release_order and self.min_boxes <= confident <= self.max_boxes:
            rows = rows.sort().values
        return Selected(rows, found.class_probs[rows, 1:].argmax(dim=1), scores[rows])

    def _confidences(self, found: Candidates) -> Tensor:
        """(R,) exact wherever it decides.

        Probabilities below a floor suppress none above it; so the floor sinks only until enough stand on it.
        """
        boxes, probs = found.boxes / found.scale, found.class_probs[:, 1:]
        floor = self.confidence
        while True:
            scores = _surviving(boxes, probs, floor, self.nms, plus_one=found.plus_one)
            if floor == 0 or int((scores >= floor).sum()) >= self.min_boxes:
                return scores
            floor = floor / 4 if floor > 1e-4 else 0.0


@dataclass(frozen=True, kw_only=True)
class LxmertRule:
    """Rule L, of the LXMERT port and of its COCO script: one suppression over regressed boxes, whatever their class."""

    min_boxes: int = 36
    max_boxes: int = 36
    nms: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Tried in turn until enough are left."""
    box_kind: BoxKind = "regressed"

    def __post_init__(self) -> None:
        _check_numbers(self.min_boxes, self.max_boxes, nms=self.nms)

    def __str__(self) -> str:
        return f"lxmert(min={self.min_boxes}, max={self.max_boxes}, nms={'/'.join(map(str, self.nms))})"

    def select(self, found: Candidates) -> Selected:
        """The best by their likeliest class; no score is too low."""
        scores, class_ids = found.class_probs[:, 1:].max(dim=1)
        boxes = found.regress(torch.arange(len(scores), device=scores.device), class_ids)
        rows = _first_enough(
            lambda threshold: nms(boxes, scores, threshold, plus_one=found.plus_one), self.nms, self.min_boxes
        )[: self.max_boxes]
        return Selected(rows, class_ids[rows], scores[rows])


@dataclass(frozen=True, kw_only=True)
class NotebookRule:
    """Rule A, of the detectron2 port's notebooks: ordinary detection, a region for every class that it passes in."""

    min_boxes: int = 36
    max_boxes: int = 36
    confidence: float = 0.2
    """Pairs of proposal and class must have a higher probability."""
    nms: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Tried in turn until enough are left."""
    box_kind: BoxKind = "regressed"

    def __post_init__(self) -> None:
        _check_numbers(self.min_boxes, self.max_boxes, confidence=(self.confidence,), nms=self.nms)

    def __str__(self) -> str:
        thresholds = "/".join(map(str, self.nms))
        return f"notebook(min={self.min_boxes}, max={self.max_boxes}, conf={self.confidence}, nms={thresholds})"

    def select(self, found: Candidates) -> Selected:
        """The best pairs of proposal and class."""
        probs = found.class_probs[:, 1:]
        rows, class_ids = (probs > self.confidence).nonzero(as_tuple=True)
        boxes, scores = found.regress(rows, class_ids), probs[rows, class_ids]
        kept = _first_enough(
            lambda threshold: nms_by_class(boxes, scores, class_ids, threshold, plus_one=found.plus_one),
            self.nms,
            self.min_boxes,
        )[: self.max_boxes]
        return Selected(rows[kept], class_ids[kept], scores[kept])


RULES = ("butd", "lxmert", "notebook")


def rule_class(name: str) -> type[ButdRule] | type[LxmertRule] | type[NotebookRule]:
    """The rule of that name.

    Raises:
        UsageError: there is none; those that there are are named.
    """
    match name:
        case "butd":
            return ButdRule
        case "lxmert":
            return LxmertRule
        case "notebook":
            return NotebookRule
    raise UsageError(unknown("rule of selection", name, RULES))


def classes_first_chosen(class_probs: Tensor, chosen: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """(R, K) class ids and probabilities: what the rule took a region for, then the others, the likeliest first.

    Under rule A the first need not be the likeliest.

    Args:
        class_probs: (R, 1 + C), background first.
        chosen: (R,) class ids, from 0 without background.
        keep: K, or C where that is less.
    """
    probs = class_probs[:, 1:]
    class_ids = probs.scatter(1, chosen[:, None], 2.0).topk(min(keep, probs.shape[1])).indices
    return class_ids, probs.gather(1, class_ids)


def nms_by_class(boxes: Tensor, scores: Tensor, class_ids: Tensor, threshold: float, *, plus_one: bool) -> Tensor:
    """Rows kept when only boxes of one class suppress each other, best first.

    torchvision's `batched_nms` moves the classes apart by adding to their boxes, which rounds them by up to 1/8 pixel
    where there are 1,600.
    """
    by_class = class_ids.argsort(stable=True).split(class_ids.bincount().tolist())
    kept = [
        members[nms(boxes[members], scores[members], threshold, plus_one=plus_one)]
        for members in by_class
        if len(members) > 0
    ]
    rows = torch.cat([class_ids[:0], *kept]).sort().values
    return rows[scores[rows].argsort(descending=True, stable=True)]


def _check_numbers(min_boxes: int, max_boxes: int, **shares: tuple[float, ...]) -> None:
    if not (min_boxes >= 0 and max_boxes >= 1):
        raise UsageError(f"min_boxes={min_boxes} and max_boxes={max_boxes}; expected at least 0 and at least 1")
    if min_boxes > max_boxes:
        raise UsageError(f"min_boxes={min_boxes} is more than max_boxes={max_boxes}; set both of them")
    for name, values in shares.items():
        if not values or not all(0 <= value <= 1 for value in values):
            raise UsageError(f"{name}={'/'.join(map(str, values))}; expected from 0 to 1")


def _surviving(boxes: Tensor, probs: Tensor, floor: float, threshold: float, *, plus_one: bool) -> Tensor:
    """(R,) the highest probability from `floor` on with which a box survives in its class, else 0."""
    rows, class_ids = (probs >= floor).nonzero(as_tuple=True)
    kept = nms_by_class(boxes[rows], probs[rows, class_ids], class_ids, threshold, plus_one=plus_one)
    scores = probs.new_zeros(len(probs))
    return scores.scatter_reduce_(0, rows[kept], probs[rows[kept], class_ids[kept]], "amax")


def _first_enough(keep: Callable[[float], Tensor], thresholds: tuple[float, ...], enough: int) -> Tensor:
    """What the first threshold keeps that keeps enough, else the last."""
    kept = keep(thresholds[0])
    for threshold in thresholds[1:]:
        if len(kept) >= enough:
            break
        kept = keep(threshold)
    return kept
