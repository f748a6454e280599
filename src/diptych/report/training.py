"""The sections of a report that need no model: what the log of a run says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diptych.report.curves import (
    loss_chart,
    norm_chart,
    parts_chart,
    precision_while_training_chart,
    rates_chart,
    recall_while_training_chart,
    speed_chart,
)
from diptych.report.history import History
from diptych.report.machine import run_facts
from diptych.report.page import Section, missing

Chart = Callable[[History], str | None]

PARTS: tuple[tuple[str, str, str, Chart], ...] = (
    (
        "Loss",
        "Lower is better; for contrast it says how badly the right pairs of a batch are told from the wrong ones. A "
        "model that guesses lies on the dotted line, where there is one. While validation falls with training the "
        "model learns what holds for new pictures; when it turns up while training still falls, it learns by heart. "
        "Validation lies below training where its texts say more. Where steps take turns between tasks, training jumps "
        "from the loss of one to that of another; each on its own is below.",
        "the log holds no loss.",
        loss_chart,
    ),
    (
        "Recall while training",
        "How often the right one was among the first 1, 5 or 10 on held-out rows, from before the first step on. "
        "Still rising at the end: longer training should help. The gallery may be a smaller one than that of the "
        "results above.",
        "the log holds fewer than two evaluations; set training.eval_every to have more.",
        recall_while_training_chart,
    ),
    (
        "Learning rate and temperature",
        "The rate warms up, then falls. The temperature is learned: the lower, the harder the model pulls near things "
        "apart. At its lower end (the scale's clamp) it should stay, not bounce.",
        "the log holds neither.",
        rates_chart,
    ),
    (
        "Speed",
        "Pictures that went through training in a second, and the share of time spent waiting for the loader. Much "
        "above 10 %, more workers or smaller pictures help; near 0, only a faster device or a smaller model would. "
        "Model FLOPs utilisation is what the model's products need over what plain products reached on this device; it "
        "is counted after the first seconds.",
        "the log holds no speed.",
        speed_chart,
    ),
    (
        "Norm of the gradient",
        "How strongly each step pulls, on a logarithmic scale. Calm is good; single peaks do no harm, a steady "
        "climb is the usual sign before a loss runs away.",
        "the log holds no norms.",
        norm_chart,
    ),
)


PRECISION: tuple[str, str, str, Chart] = (
    "Precision while training",
    "How well the objects of held-out pictures were found, from before the first step on: 100 % is every object, in "
    "its place, under its name, before all that is wrong. The upper end of what the first boxes meet is a bound for "
    "what can be named. Still rising at the end: longer training should help.",
    "the log holds fewer than two evaluations; set training.eval_every to have more.",
    precision_while_training_chart,
)
"""In the place of recall, where the run trained a detector."""


LOSS_BY_PART: tuple[str, str, str, Chart] = (
    "Loss by part",
    "Each part of the loss before it is weighted, on a logarithmic scale. Where steps take turns between tasks, each "
    "line has the steps of its own.",
    "",
    parts_chart,
)
"""Where the loss has several."""


def training_sections(history: History) -> list[Section]:
    """Loss, recall or precision, rates, speed and norm over steps; what the log lacks is said."""
    sections = [_section(title, how, why_not, chart(history)) for title, how, why_not, chart in _parts(history)]
    title, how, why_not, chart = LOSS_BY_PART
    drawn = chart(history)
    return sections if drawn is None else [sections[0], _section(title, how, why_not, drawn), *sections[1:]]


def _parts(history: History) -> list[tuple[str, str, str, Chart]]:
    """PARTS with what the evaluations measured in the place of recall; without it where that was the loss alone."""
    measured = [event.get("metrics") for event in history.evals]
    if any("map50" in (metrics or {}) for metrics in measured):
        return [PRECISION if part[-1] is recall_while_training_chart else part for part in PARTS]
    if measured and all(metrics == {} for metrics in measured):
        return [part for part in PARTS if part[-1] is not recall_while_training_chart]
    return list(PARTS)


def machine_section(history: History, run: Mapping[str, Any]) -> Section:
    """What was run on what machine."""
    return Section(
        title="What was run on what machine",
        how_to_read="Everything needed to run it again: diptych train --repeat run.json takes the same settings.",
        body=run_facts(history, run),
    )


def _section(title: str, how: str, why_not: str, chart: str | None) -> Section:
    return missing(title, how, why_not) if chart is None else Section(title=title, how_to_read=how, body=chart)
