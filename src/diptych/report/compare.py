"""Several runs side by side: results, curves, and the settings in which they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.progress import spoken_time
from diptych.report.curves import lines_chart
from diptych.report.history import History, read_history, series
from diptych.report.machine import said
from diptych.report.page import Page, Section, missing, note
from diptych.report.scores import Score, from_plain, listed, words
from diptych.report.tables import table

CURVES = (
    ("Training loss", "loss", "How fast and how far each run learned its own batches; lower is better. Compare it only "
     "between runs of the same batch and objective: among fewer rows a contrastive loss is lower."),
    ("Samples a second", "samples_per_s", "How fast each run went; only comparable on the same machine."),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """What a run folder says of itself."""

    name: str
    history: History
    run: Mapping[str, Any]
    scores: Sequence[Score]
    """Of metrics.json; empty where its report was never written."""


def read_runs(folders: Sequence[Path]) -> list[PastRun]:
    """The runs of some folders, named by as much of their paths as tells them apart.

    Raises:
        DataError: a folder holds no run.
    """
    for folder in folders:
        if not (folder / "run.json").is_file() and not (folder / "log.jsonl").is_file():
            raise DataError(f"{folder} holds no run (neither run.json nor log.jsonl); name the folder of --out")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def comparison(runs: Sequence[PastRun]) -> Page:
    """The page that shows them side by side."""
    names = [run.name for run in runs]
    return Page(
        kicker="diptych · comparison",
        headline=_headline(runs),
        lead=[f"{len(runs)} runs: {listed(names)}."],
        sections=[
            _results(runs),
            _validation(runs),
            *[_curve(runs, title, name, how) for title, name, how in CURVES],
            _settings(runs),
        ],
    )


def compared(runs: Sequence[PastRun]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the table of results: a row a number, a column a run."""
    by_run = [{score.name: score for score in run.scores} for run in runs]
    named = {score.name: score for run in runs for score in run.scores}
    rows = [
        (score.label, _chance(by_run, score), *[words(_value(scores, name), score.unit) for scores in by_run])
        for name, score in named.items()
    ]
    steps = ("steps", "–", *[f"{run.history.last_step:,}" for run in runs])
    time = ("time trained", "–", *[spoken_time(run.history.seconds) for run in runs])
    return ("", "chance", *[run.name for run in runs]), [*rows, steps, time]


def differing_settings(runs: Sequence[PastRun]) -> list[tuple[str, ...]]:
    """The settings that are not the same in all runs: the name, then the value in each."""
    settings = [dict(said(run.run)) for run in runs]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [(name, *[one.get(name, "–") for one in settings]) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _read(folder: Path, name: str) -> PastRun:
    run, metrics = folder / "run.json", folder / "metrics.json"
    return PastRun(
        name=name,
        history=read_history(folder),
        run=json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {},
        scores=from_plain(json.loads(metrics.read_text(encoding="utf-8"))["results"]) if metrics.is_file() else [],
    )


def _chance(by_run: Sequence[Mapping[str, Score]], score: Score) -> str:
    """Chance is not the same where galleries differ in size, and then the numbers do not compare either."""
    told = {words(scores[score.name].chance, score.unit) for scores in by_run if score.name in scores}
    return told.pop() if len(told) == 1 else "differs"


def _value(scores: Mapping[str, Score], name: str) -> float | None:
    return scores[name].value if name in scores else None


def _headline(runs: Sequence[PastRun]) -> str:
    firsts = {run.name: _value({score.name: score for score in run.scores}, "text_to_image_r1") for run in runs}
    known = {name: value for name, value in firsts.items() if value is not None}
    if len(known) < 2:
        return f"{len(runs)} runs side by side"
    best = max(known, key=lambda name: known[name])
    others = ", ".join(f"{100 * value:.0f} in {name}" for name, value in known.items() if name != best)
    return f"{best} finds the right picture first for {100 * known[best]:.0f} of 100 texts; {others}"


def _results(runs: Sequence[PastRun]) -> Section:
    columns, rows = compared(runs)
    without = [run.name for run in runs if not run.scores]
    told = note(f"No results yet: {listed(without)}. Write them with: diptych report show RUN") if without else ""
    how = (
        "The numbers of each run's metrics.json. They compare only where the same rows were asked; a difference "
        "smaller than the intervals in the runs' own reports says nothing."
    )
    return Section(title="Results", how_to_read=how, body=table(columns, rows) + told)


def _validation(runs: Sequence[PastRun]) -> Section:
    how = "The right picture for a text comes first, on held-out rows while training (R@1)."
    lines = {}
    for run in runs:
        events = [event | event["metrics"] for event in run.history.evals if isinstance(event.get("metrics"), dict)]
        lines[run.name] = series(events, "text_to_image_r1")
    chart = lines_chart(lines, name="compare-recall", y="R@1", shares=True)
    title = "Recall while training"
    return missing(title, how, "no run holds evaluations.") if chart is None else _drawn(title, how, chart)


def _curve(runs: Sequence[PastRun], title: str, name: str, how: str) -> Section:
    lines = {run.name: series(run.history.steps, name) for run in runs}
    chart = lines_chart(lines, name=f"compare-{name}", y=title.lower())
    return missing(title, how, "no log holds it.") if chart is None else _drawn(title, how, chart)


def _drawn(title: str, how: str, chart: str) -> Section:
    return Section(title=title, how_to_read=how, body=chart)


def _settings(runs: Sequence[PastRun]) -> Section:
    rows = differing_settings(runs)
    body = table(("", *[run.name for run in runs]), rows) if rows else note("None: the settings are the same.")
    how = "Every setting of run.json that is not the same in all runs: where to look for the reason of a difference."
    return Section(title="Settings that differ", how_to_read=how, body=body)
