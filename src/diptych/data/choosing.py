"""VCR's rows: of a question one that asks for its answer, and those that ask for the rationale of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diptych.data.examples import Example

TO_ANSWER, TO_RATIONALE = "Q->A", "QA->R"
"""Kinds of rows, as arXiv:1811.10830 calls them."""


def answer_key(question: str) -> str:
    """The key of the row that asks for the answer to the question of a key."""
    return f"{question}:qa"


def rationale_key(question: str, place: int) -> str:
    """The key of the row that asks why the answer at a place is right."""
    return f"{question}:qar{place}"


def rows_of_question(
    key: str,
    pictures: tuple[str, ...],
    question: str,
    answers: Sequence[str],
    rationales: Sequence[str],
    *,
    right: int | None,
    right_rationale: int | None,
) -> Iterator[Example]:
    """The rows of one question.

    Rationales are asked for given the right answer; where nobody tells that one (VCR's test), given each of them, as
    its leaderboard wants it.
    """
    yield Example(
        key=answer_key(key),
        pictures=pictures,
        texts=(question,),
        kind=TO_ANSWER,
        options=tuple(answers),
        right=right,
    )
    for place in range(len(answers)) if right is None else (right,):
        yield Example(
            key=rationale_key(key, place),
            pictures=pictures,
            texts=(question, answers[place]),
            kind=TO_RATIONALE,
            options=tuple(rationales),
            right=right_rationale,
        )


def question_of(key: str) -> str:
    """The key of the question that a row asks about."""
    return key.rpartition(":")[0]
