"""Answering: the answers that a model gives to the questions or statements of a table of examples, and their worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from diptych.data.examples import ANSWERS, KIND, answer_scores
from diptych.data.sample import Sample
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.report.found import drawn
from diptych.report.page import Section
from diptych.report.scores import Score, share, words
from diptych.report.tables import table
from diptych.tasks.matcher import REGIONS

ALL = "all kinds"
SHOWN = 24
"""Questions on a page."""


@runtime_checkable
class Answerer(Protocol):
    """What this task asks of a model; `FusedMatcher` is one where it has a head for answers."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    @property
    def answers(self) -> tuple[str, ...]:
        """(A) that it chooses among."""

    def answer(self, samples: Sequence[Sample], progress: Progress = SILENT) -> Tensor:
        """(N, A) float32, how much each answer is right for the first text of each sample."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question and what the model said."""

    key: str
    text: str
    kind: str
    answer: str
    right: str
    """The answer that is worth most; "" where nobody tells, or it is none that the model knows."""
    worth: float | None
    """From 0 to 1; None where nobody tells."""
    usual: float | None
    """What the answer that is given most often to this kind of question would be worth."""


def answering(
    model: Answerer, rows: Rows, *, limit: int | None = None, progress: Progress = SILENT
) -> tuple[Answered, ...]:
    """The likeliest answer to the first text of each row.

    Args:
        model: the model.
        rows: of a table of examples, with regions joined.
        limit: at most so many rows, evenly spread over the split.
        progress: where the work is drawn.
    Raises:
        DataError: the rows are no examples, or one lacks a text or regions.
    """
    if ANSWERS not in rows.columns:
        raise DataError(
            f"{rows.path} has no column {ANSWERS!r}; expected a table of examples, as `diptych data examples` makes it"
        )
    columns = (REGIONS, ANSWERS, KIND)
    samples = [replace(rows.sample(row, columns), image=None) for row in spread_rows(len(rows), limit)]
    chosen = model.answer(samples, progress).argmax(dim=1).tolist()
    worth = [answer_scores(sample.fields[ANSWERS], model.answers) for sample in samples]
    usual = _usual([sample.fields[KIND] or "" for sample in samples], worth)
    return tuple(
        _answered(sample, model.answers, place, known, usual)
        for sample, place, known in zip(samples, chosen, worth, strict=True)
    )


def _answered(
    sample: Sample, names: Sequence[str], chosen: int, worth: Sequence[float] | None, usual: Mapping[str, int]
) -> Answered:
    kind = sample.fields[KIND] or ""
    best = None if worth is None or not any(worth) else max(range(len(names)), key=worth.__getitem__)
    return Answered(
        key=sample.key,
        text=sample.texts[0],
        kind=kind,
        answer=names[chosen],
        right="" if best is None else names[best],
        worth=None if worth is None else worth[chosen],
        usual=None if worth is None else worth[usual[kind]],
    )


def _usual(kinds: Sequence[str], worth: Sequence[Sequence[float] | None]) -> Mapping[str, int]:
    """The place of the answer that is worth most in sum, by kind."""
    sums: dict[str, Counter[int]] = {}
    for kind, known in zip(kinds, worth, strict=True):
        sums.setdefault(kind, Counter()).update({place: one for place, one in enumerate(known or ()) if one > 0})
    return {kind: max(counts, key=lambda place: counts[place], default=0) for kind, counts in sums.items()}


def answering_scores(found: Sequence[Answered]) -> list[Score]:
    """The mean worth of the answers, of all and by kind; beside it what always saying the usual answer gets.

    Raises:
        DataError: nobody tells a single answer.
    """
    known = [one for one in found if one.worth is not None]
    if not known:
        raise DataError("no row tells its answers, so that there is nothing to measure; write them out with predict")
    kinds = list(dict.fromkeys(one.kind for one in known))
    groups = {ALL: known} | ({kind: [one for one in known if one.kind == kind] for kind in kinds} if kinds[1:] else {})
    return [_score(kind, of_kind) for kind, of_kind in groups.items()]


def _score(kind: str, found: Sequence[Answered]) -> Score:
    return share(
        name="accuracy" if kind == ALL else f"{kind.replace(' ', '_')}_accuracy",
        label=kind,
        group="Answers (chance: always the kind's usual one)",
        right=sum(one.worth or 0.0 for one in found),
        count=len(found),
        chance=sum(one.usual or 0.0 for one in found) / len(found),
    )


def examples_section(found: Sequence[Answered], seed: int) -> Section:
    """Some questions with what the model said and what is right, none chosen by hand."""
    shown = [found[place] for place in drawn(SHOWN, len(found), seed=seed, purpose="answers")]
    rows = [(one.text, one.kind, one.answer, one.right, words(one.worth)) for one in shown]
    return Section(
        title="Questions and answers",
        how_to_read=f"{len(shown)} rows drawn by seed {seed}.",
        body=table(("text", "kind", "the model says", "right", "worth"), rows),
    )
