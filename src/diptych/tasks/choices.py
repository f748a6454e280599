"""Choices: of several texts, the one that is true of the picture; accuracy by kind of question, beside chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from diptych.data.rejects import Reject
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.intervals import Counted
from diptych.metrics.recall import dot_products
from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers
from diptych.tasks.matcher import REGIONS, Matcher
from diptych.tasks.pictures import encode_pictures
from diptych.tasks.texts import encode_texts

COLUMN = "choices"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One choice and what the model took."""

    row: int
    """Of the split."""
    key: str
    kind: str
    texts: tuple[str, ...]
    answer: int
    """The text that is true."""
    chosen: int
    """The text that the model scored highest; of equal ones a wrong one."""

    @property
    def right(self) -> bool:
        """The model took the true one."""
        return self.chosen == self.answer


@dataclass(frozen=True, kw_only=True)
class KindResult(Counted):
    """All questions of one kind."""

    kind: str
    chance: float
    """What guessing would reach: the mean of 1 / number of texts."""


@dataclass(frozen=True, kw_only=True)
class ChoicesResult:
    """Every question, and the kinds in the order in which they first came."""

    split: str
    questions: tuple[Question, ...]
    kinds: tuple[KindResult, ...]
    rejects: tuple[Reject, ...] = ()

    def numbers(self) -> dict[str, float]:
        """By kind: accuracy, the ends of its interval, chance and the number of questions."""
        found: dict[str, float] = {}
        for kind in self.kinds:
            low, high = kind.interval
            found |= {f"{kind.kind}_accuracy": kind.accuracy, f"{kind.kind}_low": low, f"{kind.kind}_high": high}
            found |= {f"{kind.kind}_chance": kind.chance, f"{kind.kind}_num": kind.num}
        return found


def choices(
    model: Towers | Matcher, rows: Rows, *, limit: int | None = None, progress: Progress = SILENT
) -> ChoicesResult:
    """Asks every question of the column `choices`: which of its texts fits the picture best.

    Of two towers that is the text of the highest cosine, of a model that reads text and regions at once the one that it
    holds likeliest to match. The column is a list of (kind, texts, answer), e.g. ("colours", ["a red car", "a blue
    car"], 0). Ties count against the model.

    Args:
        model: the model.
        rows: the split; for a matcher with regions joined.
        limit: at most so many rows, evenly spread over the split.
        progress: where the work is drawn.
    Raises:
        DataError: there is no such column, no question, or an answer that is none of its texts; or a row lacks regions.
    """
    if isinstance(model, Matcher):
        return _by_matching(model, rows, limit, progress)
    return _by_cosine(model, rows, limit, progress)


def _by_cosine(encoder: Towers, rows: Rows, limit: int | None, progress: Progress) -> ChoicesResult:
    found = encode_pictures(
        encoder.encode_image,
        rows,
        spread_rows(len(rows), limit),
        columns=(COLUMN,),
        wanted=lambda sample: bool(sample.fields[COLUMN]),
        progress=progress,
    )
    if not found.rows:
        raise DataError(_nothing_asked(rows))
    asked = [(picture, question) for picture, sample in enumerate(found.samples) for question in sample.fields[COLUMN]]
    texts = encode_texts(encoder, (text for _, question in asked for text in question["texts"]), progress=progress)
    questions = tuple(
        _answered(found.rows[picture], found.samples[picture].key, question, scores)
        for picture, question in asked
        for scores in [dot_products(found.vectors[picture : picture + 1], texts.of(question["texts"]))[0]]
    )
    return ChoicesResult(split=rows.name, questions=questions, kinds=by_kind(questions), rejects=found.rejects)


def _by_matching(matcher: Matcher, rows: Rows, limit: int | None, progress: Progress) -> ChoicesResult:
    chosen = spread_rows(len(rows), limit)
    found = [(row, replace(rows.sample(row, (COLUMN, REGIONS)), image=None)) for row in chosen]
    found = [(row, sample) for row, sample in found if sample.fields[COLUMN]]
    if not found:
        raise DataError(_nothing_asked(rows))
    asked = [(place, question) for place, (_, sample) in enumerate(found) for question in sample.fields[COLUMN]]
    texts = [text for _, question in asked for text in question["texts"]]
    owners = [place for place, question in asked for _ in question["texts"]]
    odds = matcher.match(
        [sample for _, sample in found], texts, list(zip(owners, range(len(texts)), strict=True)), progress
    )
    each = odds.split([len(question["texts"]) for _, question in asked])
    questions = tuple(
        _answered(found[place][0], found[place][1].key, question, scores)
        for (place, question), scores in zip(asked, each, strict=True)
    )
    return ChoicesResult(split=rows.name, questions=questions, kinds=by_kind(questions))


def _nothing_asked(rows: Rows) -> str:
    return f"the split {rows.name!r} asks no questions in its column {COLUMN!r}; choose another --split"


def by_kind(questions: Iterable[Question]) -> tuple[KindResult, ...]:
    """Counts the right answers of each kind, the kinds in the order in which they first come."""
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(question.kind, []).append(question)
    return tuple(
        KindResult(
            kind=kind,
            num=len(asked),
            hits=sum(question.right for question in asked),
            chance=sum(1 / len(question.texts) for question in asked) / len(asked),
        )
        for kind, asked in kinds.items()
    )


def _answered(row: int, key: str, asked: Mapping[str, Any], scores: Tensor) -> Question:
    options, answer = asked["texts"], asked["answer"]
    if not 0 <= answer < len(options):
        raise DataError(
            f"{key}: a question of kind {asked['kind']!r} has {len(options)} texts and answer {answer}; "
            f"expected the place of the true text, counted from 0"
        )
    return Question(
        row=row,
        key=key,
        kind=asked["kind"],
        texts=tuple(options),
        answer=answer,
        chosen=_highest(scores, answer),
    )


def _highest(scores: Tensor, answer: int) -> int:
    """Where the highest of the (C,) scores is; of equal ones a wrong one."""
    highest = (scores == scores.max()).nonzero()[:, 0].tolist()
    return next((place for place in highest if place != answer), answer)
