"""Referring expressions: the region that a phrase means, of those that a store has of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torchvision.ops import box_iou

from diptych.data.examples import BOX, KIND
from diptych.data.sample import Sample
from diptych.data.sampler import scattered_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.objectives.referring import HIT
from diptych.progress import SILENT, Progress
from diptych.report.found import drawn
from diptych.report.page import Section
from diptych.report.scores import Score, share, words
from diptych.report.tables import table
from diptych.tasks.matcher import REGIONS

AT_ONCE = 256
"""Rows that are read before they are asked about."""
SHOWN = 24
"""Phrases on a page."""
Box = tuple[float, float, float, float]


@runtime_checkable
class Pointer(Protocol):
    """What this task asks of a model; `FusedMatcher` is one where it has a head for regions."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    def point(self, samples: Sequence[Sample]) -> list[Tensor]:
        """N times (R,) float32, how much each region is what the first text of a sample means."""


@dataclass(frozen=True, kw_only=True)
class Pointed:
    """One phrase and the region that the model chose."""

    key: str
    text: str
    kind: str
    box: Box
    """x0, y0, x1, y1 as shares of the picture."""
    overlap: float | None
    """With the box that is meant, intersection over union; None where nobody tells."""
    hits: float
    """Share of the picture's regions that are what is meant: what choosing by chance gets."""

    @property
    def right(self) -> bool:
        """Whether it overlaps what is meant by more than half."""
        return (self.overlap or 0.0) > HIT


def referring(
    model: Pointer, rows: Rows, *, limit: int | None = None, scored: bool = True, progress: Progress = SILENT
) -> tuple[Pointed, ...]:
    """The region that scores highest for the first text of each row.

    On stores of the true boxes and of a detector's alike, as papers report both.

    Args:
        model: the model.
        rows: of a table of examples, with regions joined.
        limit: at most so many rows, evenly spread over the split.
        scored: whether the rows have to tell what is meant.
        progress: where the work is drawn.
    Raises:
        UsageError: the model was never trained to.
        DataError: the rows do not tell what is meant; or one lacks a text or regions.
    """
    if scored and BOX not in rows.columns:
        raise DataError(
            f"{rows.path} has no column {BOX!r}; expected phrases, as `diptych data examples --task re` makes them"
        )
    chosen, found = scattered_rows(len(rows), limit), list[Pointed]()
    columns = (REGIONS, *(name for name in (BOX, KIND) if name in rows.columns))
    with progress.bar("pointing", total=len(chosen), unit="phrases") as bar:
        for start in range(0, len(chosen), AT_ONCE):
            samples = [replace(rows.sample(row, columns), image=None) for row in chosen[start : start + AT_ONCE]]
            scores = model.point(samples)
            found += [_pointed(sample, one) for sample, one in zip(samples, scores, strict=True)]
            bar.advance(len(samples))
    return tuple(found)


def _pointed(sample: Sample, scores: Tensor) -> Pointed:
    boxes = torch.tensor(sample.fields[REGIONS].boxes[: len(scores)], dtype=torch.float32)
    place, meant = int(scores.argmax()), sample.fields.get(BOX)
    overlaps = torch.zeros(len(boxes)) if meant is None else box_iou(boxes, torch.tensor([meant]))[:, 0]
    x0, y0, x1, y1 = boxes[place].tolist()
    return Pointed(
        key=sample.key,
        text=sample.texts[0],
        kind=sample.fields.get(KIND) or "",
        box=(x0, y0, x1, y1),
        overlap=None if meant is None else float(overlaps[place]),
        hits=float((overlaps > HIT).float().mean()),
    )


def referring_scores(found: Sequence[Pointed]) -> list[Score]:
    """The share of phrases whose region overlaps what is meant by more than half; of all, and where there is one.

    Raises:
        DataError: nobody tells a single box.
    """
    known = [one for one in found if one.overlap is not None]
    if not known:
        raise DataError("no row tells which box is meant, so that there is nothing to measure; write them with predict")
    reachable = [one for one in known if one.hits > 0]
    groups = {"all phrases": known} | ({"a region is meant": reachable} if 0 < len(reachable) < len(known) else {})
    return [
        share(
            name="accuracy" if rows is known else "reachable_accuracy",
            label=label,
            group="Phrases (chance: any of the regions)",
            right=sum(one.right for one in rows),
            count=len(rows),
            chance=sum(one.hits for one in rows) / len(rows),
        )
        for label, rows in groups.items()
    ]


def phrases_section(found: Sequence[Pointed], seed: int) -> Section:
    """Some phrases with the box that was chosen, none chosen by hand."""
    shown = [found[place] for place in drawn(SHOWN, len(found), seed=seed, purpose="phrases")]
    rows = [(one.text, " ".join(f"{edge:.2f}" for edge in one.box), words(one.overlap)) for one in shown]
    return Section(
        title="Phrases and regions",
        how_to_read=f"{len(shown)} rows drawn by seed {seed}. Boxes are left, top, right and bottom as shares of the "
        f"picture; one is right where it overlaps what is meant by more than {HIT}.",
        body=table(("phrase", "region", "overlap"), rows),
    )
