"""Answering: the answers that a model gives to the rows of a table of examples, and what they are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from diptych.data.choosing import TO_ANSWER, TO_RATIONALE, question_of
from diptych.data.examples import ANSWERS, KIND, OPTIONS, RIGHT, answer_scores
from diptych.data.sample import Sample
from diptych.data.sampler import scattered_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.report.found import drawn
from diptych.report.page import Section
from diptych.report.scores import Score, share, words
from diptych.report.tables import table
from diptych.tasks.matcher import REGIONS

ALL = "all kinds"
BOTH = "Q->AR"
"""What VCR calls a right answer with the right rationale."""
AT_ONCE = 1024
"""Rows that are read before they are answered."""
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
        """(A) that it chooses among; () of one that chooses among the options of each row."""

    @property
    def reads_options(self) -> bool:
        """Whether it does so."""

    def answer(self, samples: Sequence[Sample]) -> Tensor:
        """(N, A) float32, how much each answer, or option, of each sample is right."""


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
    """What the answer that is worth most, over all rows asked of this kind, would be worth here; of options, any."""
    shares: tuple[float, ...] = ()
    """Of a row with options: how likely the model finds each of them."""


def answering(
    model: Answerer, rows: Rows, *, limit: int | None = None, scored: bool = True, progress: Progress = SILENT
) -> tuple[Answered, ...]:
    """The likeliest answer to each row, read and answered some at a time.

    Args:
        model: the model.
        rows: of a table of examples, with regions joined.
        limit: at most so many rows, evenly spread over the split.
        scored: whether the rows have to tell their answers.
        progress: where the work is drawn.
    Raises:
        UsageError: the model was never trained to answer.
        DataError: the rows tell no answers, or none that the model knows; or one lacks a text or regions.
    """
    needed = OPTIONS if model.reads_options else ANSWERS
    if needed not in rows.columns and (scored or needed == OPTIONS):
        raise DataError(
            f"{rows.path} has no column {needed!r}; expected a table of examples, as `diptych data examples` makes it"
        )
    columns = (REGIONS, *(name for name in (ANSWERS, OPTIONS, RIGHT, KIND) if name in rows.columns))
    chosen, said = scattered_rows(len(rows), limit), list[_Said]()
    with progress.bar("answering", total=len(chosen), unit="questions") as bar:
        for start in range(0, len(chosen), AT_ONCE):
            samples = [replace(rows.sample(row, columns), image=None) for row in chosen[start : start + AT_ONCE]]
            odds = model.answer(samples)
            said += [_said(sample, model.answers, one) for sample, one in zip(samples, odds, strict=True)]
            bar.advance(len(samples))
    _check_known(rows, model, said)
    usual = _usual(said)
    return tuple(_answered(one, usual[one.kind]) for one in said)


@dataclass(frozen=True)
class _Said:
    key: str
    text: str
    kind: str
    names: Sequence[str]
    """Of the answers, or the row's options."""
    chosen: int
    shares: tuple[float, ...]
    worth: Mapping[int, float] | None
    """By place, of the answers that are worth anything and that the model knows; None where nobody tells."""


def _said(sample: Sample, names: Sequence[str], odds: Tensor) -> _Said:
    if not sample.texts:
        raise DataError(f"{sample.key} has no text; expected a question or a statement")
    fields, text = sample.fields, " ".join(sample.texts)
    if names:
        worth, shares = answer_scores(fields.get(ANSWERS), names), ()
        known = None if worth is None else {place: one for place, one in enumerate(worth) if one > 0}
    else:
        names, right, shares = fields[OPTIONS], fields.get(RIGHT), tuple(odds.softmax(dim=0).tolist())
        known = None if right is None else {right: 1.0}
    return _Said(sample.key, text, fields.get(KIND) or "", names, int(odds.argmax()), shares, known)


def _check_known(rows: Rows, model: Answerer, said: Sequence[_Said]) -> None:
    """Refuses a table of another task, whose answers are all strange to the model."""
    told = [one for one in said if one.worth is not None]
    if told and not any(one.worth for one in told):
        raise DataError(
            f"none of the answers that {rows.path} tells is among the {len(model.answers):,} of {model.name}, such as "
            f"{model.answers[0]!r}; expected examples of the task that it was fine-tuned for"
        )


def _answered(said: _Said, usual: int) -> Answered:
    worth, names, chosen = said.worth, said.names, said.chosen
    return Answered(
        key=said.key,
        text=said.text,
        kind=said.kind,
        answer=names[chosen],
        right=names[max(worth, key=worth.__getitem__)] if worth else "",
        worth=None if worth is None else worth.get(chosen, 0.0),
        usual=None if worth is None else 1 / len(names) if said.shares else worth.get(usual, 0.0),
        shares=said.shares,
    )


def _usual(said: Sequence[_Said]) -> Mapping[str, int]:
    """The place of the answer that is worth most in sum, by kind."""
    sums: dict[str, Counter[int]] = {}
    for one in said:
        sums.setdefault(one.kind, Counter()).update(one.worth or {})
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
    joint = _joint(known)
    groups = {ALL: known} | ({kind: [one for one in known if one.kind == kind] for kind in kinds} if kinds[1:] else {})
    scores = [_score(kind, of_kind) for kind, of_kind in groups.items()]
    return [*scores, _score(BOTH, joint)] if joint else scores


def _joint(found: Sequence[Answered]) -> list[Answered]:
    """VCR's questions of which an answer and the reason for the right one were asked: worth something with both."""
    asked = {question_of(one.key): one for one in found if one.kind == TO_ANSWER}
    pairs = [(asked.get(question_of(one.key)), one) for one in found if one.kind == TO_RATIONALE]
    return [_both(answer, reason) for answer, reason in pairs if answer is not None]


def _both(answer: Answered, reason: Answered) -> Answered:
    worth, usual = (answer.worth or 0.0) * (reason.worth or 0.0), (answer.usual or 0.0) * (reason.usual or 0.0)
    return replace(answer, worth=worth, usual=usual)


def _score(kind: str, found: Sequence[Answered]) -> Score:
    return share(
        name="accuracy" if kind == ALL else f"{kind.replace(' ', '_').replace('->', '_to_')}_accuracy",
        label=kind,
        group="Answers (chance: always the kind's usual one; of options, any)",
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
