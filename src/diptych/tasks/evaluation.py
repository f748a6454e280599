"""One task on one table: its numbers with chance and interval, a sentence, and sections with pictures."""

from __future__ import annotations

from pathlib import Path

from diptych.data.examples import ANSWERS, BOX, OPTIONS
from diptych.data.objects import COLUMN as OBJECTS
from diptych.data.table import Table, check_pictures
from diptych.errors import UsageError, unknown
from diptych.progress import SILENT, Progress
from diptych.report.page import Page
from diptych.report.results import rejects_section, results_section
from diptych.report.sentences import of_100
from diptych.tasks.answer_sections import wrong_of_kind
from diptych.tasks.asked import Asked, Evaluation
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
from diptych.tasks.detection import Detector, by_class, detection, detection_headline, detection_numbers
from diptych.tasks.encoder import Towers
from diptych.tasks.evaluating_fused import (
    evaluate_all_pairs,
    evaluate_answers,
    evaluate_matching,
    evaluate_referring,
    evaluate_reranked,
)
from diptych.tasks.evaluating_towers import evaluate_linear_probe, evaluate_retrieval, evaluate_zero_shot
from diptych.tasks.evidence import choices_scores
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.tasks.matcher import REGIONS, Matcher


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
        UsageError: there is no such task; the nearest name is told. Or it is not for such a model, or `recall` is not
            for it.
        DataError: the table has not what the task needs.
    """
    rows = table.split(asked.split)
    if recall is not None and not (task == "retrieval" and isinstance(model, Matcher)):
        raise UsageError("candidates are recalled (--recall-with) for retrieval by a fused model; leave it out")
    if isinstance(model, FusedMatcher):
        model.check_rows(rows, progress.say)
    if recall is not None or (not isinstance(model, Matcher) and task in (*OF_TOWERS, *OF_DETECTORS)):
        check_pictures(rows)
    match task:
        case "retrieval" if isinstance(model, Matcher) and recall is None:
            return evaluate_all_pairs(model, table, asked, keep, progress)
        case "retrieval" if isinstance(model, Matcher) and recall is not None:
            return evaluate_reranked(model, recall, table, asked, progress)
        case "retrieval":
            return evaluate_retrieval(as_towers(model, task), table, asked, progress)
        case "zero_shot":
            return evaluate_zero_shot(as_towers(model, task), table, asked, progress)
        case "linear_probe":
            return evaluate_linear_probe(as_towers(model, task), table, asked, progress)
        case "choices":
            return _choices(model if isinstance(model, Matcher) else as_towers(model, task), table, asked, progress)
        case "matching":
            return evaluate_matching(as_matcher(model, task), table, asked, progress)
        case "answers":
            return evaluate_answers(as_answerer(model, task), table, asked, progress)
        case "referring":
            return evaluate_referring(as_pointer(model, task), table, asked, progress)
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
