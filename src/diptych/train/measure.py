"""What a trained model is asked for its report: everything that the table has answers for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from diptych.data.rejects import Reject
from diptych.data.table import Rows, Table
from diptych.errors import DiptychError
from diptych.progress import SILENT, Progress
from diptych.report.found import Found
from diptych.report.page import Section
from diptych.report.scores import Score
from diptych.tasks.answering import Answerer, answering, answering_scores
from diptych.tasks.asking import Asking
from diptych.tasks.choices import COLUMN as QUESTIONS
from diptych.tasks.choices import ChoicesResult, choices
from diptych.tasks.detection import DetectionResult, Detector, detection, detection_numbers
from diptych.tasks.encoder import Towers
from diptych.tasks.evidence import choices_scores, classes_scores, found_by, retrieval_scores
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.tasks.matcher import Matcher
from diptych.tasks.matching import MatchingResult, alignments, matching
from diptych.tasks.prompts import DEFAULT, templates
from diptych.tasks.retrieval import retrieval
from diptych.tasks.zero_shot import ZeroShotResult, zero_shot

UNSEEN = "unseen_pairs"
"""A split of things and colours that never met in training; its questions are asked besides those of the split."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the trained model did on held-out rows; where it could not be asked, `why_not` says so."""

    scores: tuple[Score, ...] = ()
    found: Found | None = None
    split: str = ""
    rejects: tuple[Reject, ...] = ()
    why_not: str = ""
    classes: ZeroShotResult | None = None
    """What the labelled pictures were taken for; where there is none, `why_no_classes` says so."""
    why_no_classes: str = ""
    questions: tuple[tuple[ChoicesResult, Rows], ...] = ()
    """Questions with the split that they are about."""
    matching: MatchingResult | None = None
    """Of a model that reads text and regions at once."""
    aligned: Callable[[int], list[Section]] | None = None
    """By a seed: which words of some of its texts go with which regions."""
    detection: DetectionResult | None = None
    """Of a detector, which is asked nothing else."""


def measure(
    model: Asking | None,
    table: Table | None,
    *,
    split: str,
    limit: int,
    progress: Progress = SILENT,
) -> Measured:
    """Retrieval, questions and classes of a split, as far as the table has them; of a detector its objects.

    Args:
        model: two towers, a matcher or a detector; None where the run ended too early for one.
        table: with the split; None where it is gone.
        split: what is asked.
        limit: at most so many pictures, evenly spread over the split.
        progress: where the work is drawn.
    """
    if model is None:
        return Measured(why_not="the run ended before its first checkpoint, so there is no model to ask.")
    if table is None:
        return Measured(why_not="the table that the run was trained on was not at hand; name it with --data.")
    try:
        return _measured(model, table, table.split(split), limit, progress)
    except DiptychError as error:
        return Measured(why_not=str(error))


def _measured(model: Asking, table: Table, rows: Rows, limit: int, progress: Progress) -> Measured:
    """Raises DiptychError where the rows have not what such a model is asked about."""
    if isinstance(model, FusedMatcher):
        model.check_rows(rows, progress.say)
    if isinstance(model, Detector):
        objects = detection(model, rows, limit=limit, progress=progress)
        scores = tuple(detection_numbers(objects))
        return Measured(scores=scores, split=rows.name, rejects=objects.rejects, detection=objects)
    if isinstance(model, Answerer) and model.answers:
        answers = answering(model, rows, limit=limit, progress=progress)
        return Measured(scores=tuple(answering_scores(answers)), split=rows.name)
    if isinstance(model, Matcher):
        return _matches(model, table, rows, limit, progress)
    return _retrieves(model, table, rows, limit, progress)


def _retrieves(encoder: Towers, table: Table, rows: Rows, limit: int, progress: Progress) -> Measured:
    result = retrieval(encoder, rows, limit=limit, progress=progress)
    names = tuple(table.meta.get("label_names", ()))
    measured = Measured(
        scores=tuple(retrieval_scores(result)),
        found=found_by(result, rows, scale=float(encoder.scale), label_names=names),
        split=rows.name,
        rejects=result.rejects,
    )
    measured = _with_classes(measured, encoder, rows, table.meta, limit, progress)
    questions = tuple(_questions(encoder, table, rows.name, limit, progress))
    scores = choices_scores(*(result for result, _ in questions))
    return replace(measured, questions=questions, scores=(*measured.scores, *scores))


def _matches(matcher: Matcher, table: Table, rows: Rows, limit: int, progress: Progress) -> Measured:
    result = matching(matcher, rows, limit=limit, progress=progress)
    questions = tuple(_questions(matcher, table, rows.name, limit, progress))
    scores = (*result.scores(), *choices_scores(*(answers for answers, _ in questions)))
    return Measured(
        scores=scores,
        split=rows.name,
        matching=result,
        questions=questions,
        aligned=partial(alignments, result, matcher, rows),
    )


def _with_classes(
    measured: Measured, encoder: Towers, rows: Rows, meta: Mapping[str, Any], limit: int, progress: Progress
) -> Measured:
    names = [(name,) for name in meta.get("label_names", ())]
    if not names:
        return replace(measured, why_no_classes="the table names no labels (label_names in table.json).")
    texts = tuple(meta.get("templates", templates(DEFAULT)))
    try:
        classes = zero_shot(encoder, rows, class_names=names, templates=texts, limit=limit, progress=progress)
    except DiptychError as error:
        return replace(measured, why_no_classes=str(error))
    return replace(measured, classes=classes, scores=(*measured.scores, *classes_scores(classes)))


def _questions(
    model: Towers | Matcher, table: Table, split: str, limit: int, progress: Progress
) -> Iterator[tuple[ChoicesResult, Rows]]:
    """The questions of the split, and those about pairs that training never showed."""
    if QUESTIONS not in table.columns:
        return
    for name in dict.fromkeys([split, UNSEEN]):
        if name not in table.splits:
            continue
        rows = table.split(name)
        try:
            yield choices(model, rows, limit=limit, progress=progress), rows
        except DiptychError as error:
            progress.say(str(error))
