"""One task on one table: its numbers with chance and interval, a sentence, and sections with pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.data.examples import ANSWERS, BOX, OPTIONS
from diptych.data.objects import COLUMN as OBJECTS
from diptych.data.rejects import Reject
from diptych.data.table import Table, check_pictures
from diptych.errors import DataError, UsageError, unknown
from diptych.progress import SILENT, Progress
from diptych.report.page import Page, Section
from diptych.report.results import classes_section, rejects_section, results_section
from diptych.report.retrieval import retrieval_sections
from diptych.report.scores import Score
from diptych.report.sentences import matching_headline, of_100, retrieval_headline
from diptych.tasks.all_pairs import all_pairs
from diptych.tasks.answer_sections import class_answers, strengths, wrong_of_kind
from diptych.tasks.answering import ALL, Answerer, answering, answering_scores, examples_section
from diptych.tasks.asking import (
    NAMES,
    OF_DETECTORS,
    OF_TOWERS,
    Asking,
    as_answerer,
    as_detector,
    as_matcher,
    as_pointer,
    as_towers,
)
from diptych.tasks.choices import COLUMN as QUESTIONS
from diptych.tasks.choices import choices
from diptych.tasks.classified import Classified
from diptych.tasks.detection import Detector, by_class, detection, detection_headline, detection_numbers
from diptych.tasks.encoder import Towers
from diptych.tasks.evidence import choices_scores, classes_scores, found_by, retrieval_scores
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.tasks.linear_probe import linear_probe
from diptych.tasks.matcher import REGIONS, Matcher
from diptych.tasks.matching import alignments, matching
from diptych.tasks.prompts import DEFAULT, templates
from diptych.tasks.referring import Pointer, phrases_section, referring, referring_scores
from diptych.tasks.rerank import TOP, rerank
from diptych.tasks.retrieval import retrieval
from diptych.tasks.zero_shot import zero_shot


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of the model; what a task has no use for, it leaves alone."""

    split: str = "test"
    limit: int | None = None
    """At most so many rows of a split, evenly spread over it."""
    text_kind: str | None = None
    """retrieval: see there."""
    templates: tuple[str, ...] = ()
    """zero_shot: with `{}` for the name; none: the table's own, else "a photo of a {}."."""
    top: int = TOP
    """retrieval by a matcher: candidates of each query that it puts in order."""
    recall_weight: float = 1.0
    """What the logit of the towers that found these candidates counts beside the matcher's own."""
    class_names: tuple[tuple[str, ...], ...] = ()
    """zero_shot, linear_probe: the names of each class; none: the table's `label_names`."""
    seed: int = 0
    """Of the pictures that are drawn for the page, and of a validation set apart."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it."""

    task: str
    headline: str
    """A sentence that a person would say."""
    scores: tuple[Score, ...]
    details: dict[str, Any]
    """What else there is to know, for JSON."""
    rejects: tuple[Reject, ...]
    sections: Callable[[Progress], list[Section]]
    """Draws what the page shows besides the table."""


def evaluate(
    task: str,
    model: Asking,
    table: Table,
    asked: Asked,
    progress: Progress = SILENT,
    *,
    recall: Towers | None = None,
    keep: Path | None = None,
) -> Evaluation:
    """Runs a task by name.

    Args:
        task: one of NAMES.
        model: two towers; for the tasks of OF_DETECTORS a detector, for those of OF_MATCHERS a matcher.
        table: with the split that is asked.
        asked: split, limit and what the task needs.
        progress: where the work is drawn.
        recall: retrieval by a matcher: two towers that find the candidates; None: it is asked about all pairs.
        keep: retrieval by a matcher: the folder in which the scores of all pairs are kept, to go on from.
    Raises:
        UsageError: there is no such task; the nearest name is told. Or it is not for such a model.
        DataError: the table has not what the task needs.
    """
    rows = table.split(asked.split)
    if isinstance(model, FusedMatcher):
        model.check_rows(rows, progress.say)
    if recall is not None or (not isinstance(model, Matcher) and task in (*OF_TOWERS, *OF_DETECTORS)):
        check_pictures(rows)
    match task:
        case "retrieval" if isinstance(model, Matcher) and recall is None:
            return _all_pairs(model, table, asked, keep, progress)
        case "retrieval" if isinstance(model, Matcher) and recall is not None:
            return _reranked(model, recall, table, asked, progress)
        case "retrieval":
            return _retrieval(as_towers(model, task), table, asked, progress)
        case "zero_shot":
            return _zero_shot(as_towers(model, task), table, asked, progress)
        case "linear_probe":
            return _linear_probe(as_towers(model, task), table, asked, progress)
        case "choices":
            return _choices(model if isinstance(model, Matcher) else as_towers(model, task), table, asked, progress)
        case "matching":
            return _matching(as_matcher(model, task), table, asked, progress)
        case "answers":
            return _answers(as_answerer(model, task), table, asked, progress)
        case "referring":
            return _referring(as_pointer(model, task), table, asked, progress)
        case "detection":
            return _detection(as_detector(model, task), table, asked, progress)
        case _:
            raise UsageError(unknown("task", task, NAMES))


def possible(table: Table, split: str) -> tuple[str, ...]:
    """The tasks that a split has what is needed for, as far as names and columns tell."""
    rows = table.split(split)
    pictures = rows.num_pictures > 0
    labelled = pictures and bool(table.meta.get("label_names"))
    there = {
        "retrieval": pictures and next(rows.texts(), None) is not None,
        "zero_shot": labelled,
        "linear_probe": labelled and "train" in table.splits and split != "train",
        "choices": QUESTIONS in table.columns,
        "matching": REGIONS in rows.all_columns,
        "answers": bool({ANSWERS, OPTIONS} & set(table.columns)),
        "referring": BOX in table.columns,
        "detection": OBJECTS in table.columns,
    }
    return tuple(name for name in NAMES if there[name])


def page(evaluation: Evaluation, *, model: str, data: str, split: str, progress: Progress = SILENT) -> Page:
    """The evaluation as a page.

    Args:
        evaluation: from `evaluate`.
        model: what was asked, for people.
        data: where the table lies.
        split: what was asked about.
        progress: where the drawing is drawn.
    """
    rejects = [(reject.key, reject.reason) for reject in evaluation.rejects]
    return Page(
        kicker=f"diptych · {evaluation.task.replace('_', ' ')} · {model}",
        headline=evaluation.headline,
        lead=[f"{model} on the split {split!r} of {data}."],
        sections=[
            results_section(evaluation.scores, split=split),
            *evaluation.sections(progress),
            rejects_section(rejects),
        ],
    )


def _retrieval(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    rows = table.split(asked.split)
    result = retrieval(encoder, rows, limit=asked.limit, text_kind=asked.text_kind, progress=progress)
    names = tuple(table.meta.get("label_names", ()))
    numbers, chance = result.numbers(), result.chance()
    return Evaluation(
        task="retrieval",
        headline=retrieval_headline(
            numbers["text_to_image_r1"], len(result.keys), began_at=None, chance=chance["text_to_image_r1"]
        ),
        scores=tuple(retrieval_scores(result)),
        details={"num_pictures": len(result.keys), "num_texts": len(result.texts)},
        rejects=result.rejects,
        sections=lambda drawing: retrieval_sections(
            found_by(result, rows, scale=encoder.scale, label_names=names), seed=asked.seed, progress=drawing
        ),
    )


def _all_pairs(matcher: Matcher, table: Table, asked: Asked, keep: Path | None, progress: Progress) -> Evaluation:
    result = all_pairs(
        matcher,
        table.split(asked.split),
        limit=asked.limit,
        text_kind=asked.text_kind,
        keep=keep,
        progress=progress,
    )
    r1 = "text_to_image_r1"
    return Evaluation(
        task="retrieval",
        headline=retrieval_headline(result.numbers()[r1], len(result.keys), began_at=None, chance=result.chance()[r1]),
        scores=tuple(retrieval_scores(result, group="Retrieval, all pairs")),
        details={"num_pictures": len(result.keys), "num_texts": len(result.texts)},
        rejects=result.rejects,
        sections=lambda _: [],
    )


def _reranked(matcher: Matcher, recall: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    rows = table.split(asked.split)
    before = retrieval(recall, rows, limit=asked.limit, text_kind=asked.text_kind, progress=progress)
    weight = asked.recall_weight * recall.scale
    after = rerank(before, matcher, rows, top=asked.top, cosine_weight=weight, progress=progress)
    r1 = {name: result.numbers()["text_to_image_r1"] for name, result in (("before", before), ("after", after))}
    counted = " and whose logit counts" if weight > 0 else ""
    alone = [
        replace(score, name=f"recalled_{score.name}")
        for score in retrieval_scores(before, group=f"Retrieval by {recall.name} alone")
    ]
    return Evaluation(
        task="retrieval",
        headline=(
            f"Finds the right picture first for {of_100(r1['after'])} of 100 texts among {len(after.keys):,} pictures, "
            f"where {recall.name}, which recalls {asked.top}{counted}, finds it for {of_100(r1['before'])}"
        ),
        scores=(*retrieval_scores(after, group=f"Retrieval, the first {asked.top} in a new order"), *alone),
        details={
            "num_pictures": len(after.keys),
            "num_texts": len(after.texts),
            "top": asked.top,
            "recall_weight": asked.recall_weight,
        },
        rejects=after.rejects,
        sections=lambda _: [],
    )


def _zero_shot(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    rows = table.split(asked.split)
    texts = asked.templates or tuple(table.meta.get("templates", ())) or templates(DEFAULT)
    result = zero_shot(
        encoder, rows, class_names=_class_names(table, asked), templates=texts, limit=asked.limit, progress=progress
    )
    return Evaluation(
        task="zero_shot",
        headline=_class_headline(result),
        scores=tuple(classes_scores(result)),
        details={
            "class_names": list(result.class_names),
            "templates": list(result.templates),
            "calibration_error": result.numbers()["calibration_error"],
        },
        rejects=result.rejects,
        sections=lambda _: [
            classes_section(
                counts=result.confusion(),
                names=result.class_names,
                confidence=result.confidence,
                right=result.right,
                templates=result.templates,
            ),
            *class_answers(result, rows, asked.seed),
        ],
    )


def _linear_probe(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    if asked.split == "train":
        raise UsageError("the probe is fitted on the split 'train'; ask about another, e.g. --split test")
    held_out = "validation" in table.splits and asked.split != "validation"
    rows = table.split(asked.split)
    result = linear_probe(
        encoder,
        table.split("train"),
        table.split("validation") if held_out else None,
        rows,
        class_names=tuple(names[0] for names in _class_names(table, asked)),
        limit=asked.limit,
        seed=asked.seed,
        progress=progress,
    )
    return Evaluation(
        task="linear_probe",
        headline=_class_headline(result),
        scores=tuple(classes_scores(result, group="Linear probe")),
        details={
            "lambda": result.strength,
            "chosen_on": result.validation,
            "num_train": result.num_train,
            "class_names": list(result.class_names),
            "searched": [[strength, share] for strength, share in result.searched.items()],
            "calibration_error": result.numbers()["calibration_error"],
        },
        rejects=result.rejects,
        sections=lambda _: [strengths(result), *class_answers(result, rows, asked.seed)],
    )


def _matching(matcher: Matcher, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    rows = table.split(asked.split)
    result = matching(matcher, rows, limit=asked.limit, seed=asked.seed, progress=progress)
    return Evaluation(
        task="matching",
        headline=matching_headline(result.right, len(result.keys)),
        scores=tuple(result.scores()),
        details={"num_texts": len(result.keys)},
        rejects=(),
        sections=lambda _: alignments(result, matcher, rows, asked.seed),
    )


def _answers(model: Answerer, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    found = answering(model, table.split(asked.split), limit=asked.limit, progress=progress)
    scores = answering_scores(found)
    right = next(score for score in scores if score.label == ALL)
    by_chance = "guessing" if model.reads_options else "always giving a kind's usual answer"
    return Evaluation(
        task="answers",
        headline=(
            f"Answers {of_100(right.value)} of 100 questions rightly; {by_chance} gets {of_100(right.chance or 0.0)}"
        ),
        scores=tuple(scores),
        details={"num_questions": len(found), "num_answers": len(model.answers)},
        rejects=(),
        sections=lambda _: [examples_section(found, asked.seed)],
    )


def _referring(model: Pointer, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    found = referring(model, table.split(asked.split), limit=asked.limit, progress=progress)
    scores = referring_scores(found)
    return Evaluation(
        task="referring",
        headline=(
            f"Finds what is meant for {of_100(scores[0].value)} of 100 phrases; choosing a region by chance, for "
            f"{of_100(scores[0].chance or 0.0)}"
        ),
        scores=tuple(scores),
        details={"num_phrases": len(found)},
        rejects=(),
        sections=lambda _: [phrases_section(found, asked.seed)],
    )


def _choices(model: Towers | Matcher, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    rows = table.split(asked.split)
    result = choices(model, rows, limit=asked.limit, progress=progress)
    best = max(result.kinds, key=lambda kind: kind.accuracy - kind.chance)
    worst = min(result.kinds, key=lambda kind: kind.accuracy - kind.chance)
    return Evaluation(
        task="choices",
        headline=(
            f"Best at {best.kind.replace('_', ' ')}: {of_100(best.accuracy)} of 100 right, guessing gets "
            f"{of_100(best.chance)}; weakest at {worst.kind.replace('_', ' ')}: {of_100(worst.accuracy)}, guessing "
            f"gets {of_100(worst.chance)}"
        ),
        scores=tuple(choices_scores(result)),
        details={"num_questions": len(result.questions)},
        rejects=result.rejects,
        sections=lambda _: [wrong_of_kind(result, kind.kind, rows, asked.seed) for kind in result.kinds],
    )


def _detection(detector: Detector, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    result = detection(detector, table.split(asked.split), limit=asked.limit, progress=progress)
    return Evaluation(
        task="detection",
        headline=detection_headline(result),
        scores=tuple(detection_numbers(result)),
        details={
            "num_pictures": result.pictures,
            "objects_left_out": result.unknown,
            "by_class": {result.classes[label]: value for label, value in result.scores.by_class.items()},
        },
        rejects=result.rejects,
        sections=lambda _: [by_class(result)],
    )


def _class_names(table: Table, asked: Asked) -> tuple[tuple[str, ...], ...]:
    names = asked.class_names or tuple((name,) for name in table.meta.get("label_names", ()))
    if not names:
        raise DataError(
            f"{table.path} names no labels (label_names in table.json); give a name for each with --class-names FILE, "
            "one a line"
        )
    return names


def _class_headline(result: Classified) -> str:
    numbers = result.numbers()
    return (
        f"The right class, of {len(result.class_names)}, comes first for {of_100(numbers['top1'])} of 100 pictures; "
        f"guessing gets {of_100(numbers['chance'])}"
    )
