"""Detection: the objects of a table's pictures, found by a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image

from diptych.data.images import decode
from diptych.data.objects import COLUMN, read_objects
from diptych.data.rejects import Reject
from diptych.data.sample import Sample
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.detection import DetectionScores, Found, Truth, detection_scores
from diptych.progress import SILENT, Progress
from diptych.report.page import Section
from diptych.report.scores import Score
from diptych.report.tables import table

GROUP = "Detection"


@runtime_checkable
class Detector(Protocol):
    """What the task asks of a model."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of labels."""

    def find(self, pictures: Sequence[Image.Image]) -> list[Found]:
        """What is in each picture, in its pixels."""


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """How a detector did."""

    scores: DetectionScores
    classes: tuple[str, ...]
    pictures: int
    unknown: int
    """Objects whose class the detector does not know; they were not asked for."""
    rejects: tuple[Reject, ...]


def detection(
    detector: Detector, rows: Rows, *, limit: int | None = None, progress: Progress = SILENT
) -> DetectionResult:
    """Average precision and recall over the pictures of a split.

    Args:
        detector: one's own.
        rows: with the column `objects`.
        limit: at most so many pictures, evenly spread over the split.
        progress: where it is drawn.
    Raises:
        DataError: there are no objects, none of a class that the detector knows, or not a picture can be read.
        UsageError: the extra [regions] is not installed.
    """
    if COLUMN not in rows.columns:
        raise DataError(f"{rows.path} has no column {COLUMN!r} with boxes to compare with; see docs/import.md")
    numbers = {name: number for number, name in enumerate(detector.classes)}
    found: list[Found] = []
    truth: list[Truth] = []
    rejects: list[Reject] = []
    named = 0
    chosen = spread_rows(len(rows), limit)
    with progress.bar("finding objects", total=len(chosen), unit="pictures") as bar:
        for row in chosen:
            bar.advance()
            sample = rows.sample(row, [COLUMN])
            if sample.image is None:
                continue
            try:
                picture = decode(sample.image)
                (one,) = detector.find([picture])
            except DataError as error:
                rejects.append(Reject(key=sample.key, source=rows.name, reason=str(error)))
                continue
            found.append(one)
            truth.append(_truth(sample, picture, numbers))
            named += len(sample.fields[COLUMN] or ())
    known = sum(len(one.labels) for one in truth)
    if not known:
        raise DataError(_nothing(rows, named, detector, rejects))
    return DetectionResult(
        scores=detection_scores(found, truth),
        classes=detector.classes,
        pictures=len(found),
        unknown=named - known,
        rejects=tuple(rejects),
    )


def detection_numbers(result: DetectionResult) -> list[Score]:
    """The result's numbers. Guessing finds nothing, so that chance is not told; nor is an interval of a mean of
    curves."""
    scores = result.scores

    def number(name: str, label: str, value: float) -> Score:
        return Score(name=name, label=label, group=GROUP, value=value, count=scores.objects)

    return [
        number("map", "average precision, mean over IoU 0.50 to 0.95", scores.ap),
        number("map50", "average precision at IoU 0.50", scores.ap50),
        number("map75", "average precision at IoU 0.75", scores.ap75),
        number("recall_at_36", "objects met by the first 36 boxes", scores.recall36),
        number("recall_at_100", "objects met by the first 100 boxes", scores.recall100),
    ]


def detection_headline(result: DetectionResult) -> str:
    """Average precision as a sentence."""
    scores = result.scores
    return (
        f"Average precision is {100 * scores.ap50:.1f} % at IoU 0.50 and {100 * scores.ap:.1f} % over IoU 0.50 to "
        f"0.95, on {scores.objects:,} objects in {result.pictures:,} pictures"
    )


def by_class(result: DetectionResult) -> Section:
    """The classes, the hardest first."""
    values = sorted(result.scores.by_class.items(), key=lambda pair: pair[1])
    rows = [(result.classes[label], f"{100 * value:.1f} %") for label, value in values]
    unknown = (
        f" {result.unknown:,} objects of other classes, or of no use, were not asked for." if result.unknown else ""
    )
    return Section(
        title="Classes",
        how_to_read=f"Average precision at IoU 0.50 of each class, the hardest first.{unknown}",
        body=table(["class", "average precision"], rows),
    )


def _truth(sample: Sample, picture: Image.Image, numbers: dict[str, int]) -> Truth:
    objects = read_objects(
        sample.fields[COLUMN], width_px=picture.width, height_px=picture.height, classes=numbers, attributes={}
    )
    return Truth(boxes=objects.boxes, labels=objects.labels, crowd=objects.crowd)


def _nothing(rows: Rows, named: int, detector: Detector, rejects: Sequence[Reject]) -> str:
    if rejects and not named:
        return f"not one picture of the split {rows.name!r} can be read; {rejects[0].key}: {rejects[0].reason}"
    if not named:
        return f"there are no objects in the split {rows.name!r} of {rows.path}"
    some = ", ".join(detector.classes[:5])
    return (
        f"none of the {named:,} objects in the split {rows.name!r} of {rows.path} is of a class that {detector.name} "
        f"knows; it knows {len(detector.classes)}: {some} ..."
    )
