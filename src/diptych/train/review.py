"""The report of a run, however it ended: report.html and metrics.json from its log and its best weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.checkpoint.files import write_whole
from diptych.data.show import ShownTable
from diptych.data.table import Table
from diptych.errors import DataError
from diptych.progress import SILENT, Progress, spoken_time
from diptych.report.history import History, read_history, series
from diptych.report.page import Page, Section, missing, render
from diptych.report.results import classes_section, rejects_section, results_section
from diptych.report.retrieval import retrieval_sections
from diptych.report.scores import Score, from_plain, plain, shown_tables, words
from diptych.report.sentences import loss_headline, matching_headline, retrieval_headline, status_line
from diptych.report.training import machine_section, training_sections
from diptych.tasks.answer_sections import wrong_of_kind
from diptych.tasks.asking import Asking
from diptych.tasks.detection import by_class, detection_headline
from diptych.tasks.matching import NAME as MATCHING
from diptych.train.measure import Measured, measure

FORMAT = 1
REPORT, METRICS = "report.html", "metrics.json"
TWO_TOWERS = (
    "A model of two towers makes one vector of the picture and one of the text, and compares these; fine patterns, "
    "which words belong together, and where things stand are easily lost on the way. The fused models, which read the "
    "words and the picture side by side, are for this."
)
FIGURES = (
    ("text_to_image_r1", "right picture first"),
    ("image_to_text_r1", "right text first"),
    (MATCHING, "own picture before another"),
    ("map50", "average precision at IoU 0.50"),
    ("recall_at_36", "objects met by 36 boxes"),
)
"""The scores that stand large at the top, and what they are."""
NOTHING_YET = "Even the right picture for a text is found no better than by guessing: the run has not learned yet."

NO_MATCH_YET = "The run has not learned yet to tell whether a text and a picture belong together."


@dataclass(frozen=True, kw_only=True)
class Review:
    """What was written, and what it says."""

    report: Path
    metrics: Path
    headline: str
    scores: tuple[Score, ...]
    why_not: str = ""
    """Why there are no scores, where there are none."""

    def tables(self) -> list[ShownTable]:
        """The table of results in the words of the page."""
        return shown_tables(self.scores)


def write_report(
    run_folder: Path,
    *,
    encoder: Asking | None,
    table: Table | None,
    split: str | None = None,
    seed: int = 0,
    keep_answers: bool = False,
    progress: Progress = SILENT,
) -> Review:
    """Writes report.html and metrics.json into a run folder, about as many pictures as the run's own evaluations had.

    Args:
        run_folder: with run.json and log.jsonl, as far as the run got.
        encoder: the trained model; None where no checkpoint was written: the report then shows the curves.
        table: what the run was trained on; None where it is gone.
        split: what is asked; None: the split that the run was evaluated on.
        seed: of what is drawn.
        keep_answers: never put a report without answers in the place of one that has some.
        progress: where the work is drawn.
    Raises:
        DataError: `keep_answers`, and the model cannot be asked any more.
    """
    history, run = read_history(run_folder), _read_run(run_folder)
    asked = split or _training(run).get("eval_split", "validation")
    limit = _training(run).get("eval_rows", 1000)
    measured = measure(encoder, table, split=asked, limit=limit, progress=progress)
    if keep_answers and measured.why_not and _has_answers(run_folder):
        raise DataError(f"{run_folder / REPORT} stays as it is: {measured.why_not}")
    headline = _headline(history, measured)
    metrics = {
        "format": FORMAT,
        "headline": headline,
        "status": (history.end or {}).get("status", "unfinished"),
        "step": history.last_step,
        "split": measured.split,
        "results": plain(measured.scores),
    }
    page = _page(run, history, measured, metrics, seed=seed, progress=progress)
    write_whole(run_folder / METRICS, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_whole(run_folder / REPORT, render(page))
    return Review(
        report=run_folder / REPORT,
        metrics=run_folder / METRICS,
        headline=headline,
        scores=measured.scores,
        why_not=measured.why_not,
    )


def _page(
    run: Mapping[str, Any],
    history: History,
    measured: Measured,
    metrics: Mapping[str, Any],
    *,
    seed: int,
    progress: Progress,
) -> Page:
    scores = from_plain(metrics["results"])  # the page shows what metrics.json holds, and nothing else
    rejects = [(str(event.get("key")), str(event.get("reason"))) for event in history.rejects]
    rejects += [(reject.key, reject.reason) for reject in measured.rejects]
    rejects = list(dict.fromkeys(rejects))  # the run's own evaluations left out some of these too
    return Page(
        kicker=" · ".join(["diptych", *[str(run[name]) for name in ("system", "recipe") if name in run]]),
        headline=metrics["headline"],
        lead=[status_line(metrics["status"], history)],
        figures=_figures(history, scores),
        sections=[
            results_section(scores, split=measured.split, why_not=measured.why_not, remark=_remark(scores, measured)),
            *training_sections(history),
            *_pictures(measured, seed=seed, progress=progress),
            machine_section(history, run),
            rejects_section(rejects),
        ],
    )


def _remark(scores: Sequence[Score], measured: Measured) -> str:
    """Why something stays near chance: the nature of two towers, unless nothing was learned at all."""
    if measured.matching is not None:
        return NO_MATCH_YET if any(score.name == MATCHING and score.near_chance for score in scores) else ""
    first = next((score for score in scores if score.name == "text_to_image_r1"), None)
    return NOTHING_YET if first is not None and first.near_chance else TWO_TOWERS


def _pictures(measured: Measured, *, seed: int, progress: Progress) -> list[Section]:
    """What can only be shown with a model: what it finds, what it takes classes for, and what it does not know."""
    if measured.detection is not None:
        return [by_class(measured.detection)]
    if measured.aligned is not None:
        return [*measured.aligned(seed), *_near_chance(measured, seed)]
    if measured.found is None:
        return [missing("Found", "What the model finds for texts and for pictures.", measured.why_not)]
    found = retrieval_sections(measured.found, seed=seed, progress=progress)
    return [*found, _classes(measured), *_near_chance(measured, seed)]


def _classes(measured: Measured) -> Section:
    classes = measured.classes
    if classes is None:
        return missing("Zero-shot classes", "What the pictures of each class are taken for.", measured.why_no_classes)
    return classes_section(
        counts=classes.confusion(),
        names=classes.class_names,
        confidence=classes.confidence,
        right=classes.right,
        templates=classes.templates,
    )


def _near_chance(measured: Measured, seed: int) -> list[Section]:
    """Wrong answers to the kinds of question that the model does no better than guess."""
    near = {score.name for score in measured.scores if score.near_chance}
    sections: dict[str, Section] = {}
    for result, rows in measured.questions:
        for kind in result.kinds:
            if f"{kind.kind}_accuracy" in near:
                sections.setdefault(kind.kind, wrong_of_kind(result, kind.kind, rows, seed))
    return list(sections.values())


def _headline(history: History, measured: Measured) -> str:
    if measured.detection is not None:
        return detection_headline(measured.detection)
    if measured.matching is not None:
        return matching_headline(measured.matching.right, len(measured.matching.keys))
    if measured.found is None:
        return loss_headline(history, series(history.steps, "loss")[1])
    by_name = {score.name: score for score in measured.scores}
    first, pictures = by_name["text_to_image_r1"], len(measured.found.image)
    return retrieval_headline(
        first.value, pictures, began_at=_began_at(history, pictures), chance=first.chance or 0.0
    )  # fmt: skip


def _began_at(history: History, pictures: int) -> float | None:
    """R@1 before training, where the run measured it among as many pictures."""
    before = next((event for event in history.evals if event["step"] == 0 and event.get("rows") == pictures), {})
    return before.get("metrics", {}).get("text_to_image_r1")


def _figures(history: History, scores: Sequence[Score]) -> list[tuple[str, str]]:
    """The few numbers that stand large at the top."""
    by_name = {score.name: score for score in scores}
    shown = [(words(by_name[name].value), label) for name, label in FIGURES if name in by_name]
    seen = history.last_step * int(history.start.get("batch") or 0)
    told = [(f"{seen:,}", "pictures seen")] if seen else []
    parameters = history.start.get("parameters")
    told += [(f"{parameters:,}", "parameters")] if isinstance(parameters, int) else []
    told += [(spoken_time(history.seconds), "of training")] if history.seconds else []
    return shown + told


def _has_answers(run_folder: Path) -> bool:
    report, metrics = run_folder / REPORT, run_folder / METRICS
    there = report.exists() and metrics.exists()
    return there and bool(json.loads(metrics.read_text(encoding="utf-8")).get("results"))


def _read_run(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _training(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("training", {})
