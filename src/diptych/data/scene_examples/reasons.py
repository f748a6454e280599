"""Questions about a scene with four answers, and four rationales of the right one ("vcr").

Wrong options are drawn evenly from what the world has, as right ones are, and agree with what the question and the
answer before them say; so words alone tell nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple

from numpy.random import Generator

from diptych.data.choosing import rows_of_question
from diptych.data.examples import Example
from diptych.data.sample import random_for
from diptych.data.scenes.grammar import a
from diptych.data.table import Rows

NUM_QUESTIONS = 2
"""Of each scene, where it has so many."""
NUM_OPTIONS = 4


class Look(NamedTuple):
    """What an object is, and on what background."""

    name: str
    colour: str
    texture: str
    background: str


class Question(NamedTuple):
    """A form of question."""

    known: str
    """The field of the look that says which object is meant; no other object of the scene has the same."""
    asked: str
    """The field that is asked for."""
    text: str
    answer: str


QUESTIONS = (
    Question("name", "colour", "what colour is the {name}?", "the {name} is {colour}"),
    Question("colour", "name", "what is the {colour} thing?", "the {colour} thing is {a_name}"),
    Question("name", "background", "on what background is the {name}?", "the {name} is on {a_background} background"),
)
RATIONALE = "because there is {a_thing} on {a_background} background"


def questions(rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The questions of each scene, by a chance that its key decides; `meta` is of the world."""
    world = Look(meta["label_names"], meta["colours"], meta["textures"], meta["backgrounds"])
    unseen = frozenset(meta["unseen_pairs"])
    for row in range(len(rows)):
        key, objects, background = rows.values(row, ["key", "objects", "background"])
        rng = random_for(0, 0, key, "vcr")
        asked = _with_options(_askable(objects, background), world, unseen, rng)
        yield [
            example
            for number, (question, look, (answers, rationales)) in enumerate(islice(asked, NUM_QUESTIONS))
            for example in rows_of_question(
                f"{key}-vcr{number}",
                (key,),
                _fill(question.text, look),
                [_fill(question.answer, option) for option in answers],
                [_fill(RATIONALE, option) for option in rationales],
                right=answers.index(look),
                right_rationale=rationales.index(look),
            )
        ]


def _askable(objects: Sequence[Mapping[str, Any]], background: str) -> list[tuple[Question, Look]]:
    """Every question that has one answer here."""
    looks = [Look(one["name"], one["colour"], one["texture"], background) for one in objects]
    counts = {field: Counter(getattr(look, field) for look in looks) for field in Look._fields}
    return [
        (question, look)
        for look in looks
        for question in QUESTIONS
        if counts[question.known][getattr(look, question.known)] == 1
    ]


def _with_options(
    asked: Sequence[tuple[Question, Look]], world: Look, unseen: frozenset[str], rng: Generator
) -> Iterator[tuple[Question, Look, tuple[list[Look], list[Look]]]]:
    """The questions in an order by chance, with what their answers and their rationales say, the truth among them.

    One for which the world has too few is left out.
    """
    for place in rng.permutation(len(asked)):
        question, look = asked[place]
        untold = [field for field in Look._fields if field not in (question.known, question.asked)]
        answers, rationales = (_others(look, free, world, unseen) for free in ([question.asked], untold))
        if min(len(answers), len(rationales)) >= NUM_OPTIONS - 1:
            yield question, look, (_among(look, answers, rng), _among(look, rationales, rng))


def _others(look: Look, free: Sequence[str], world: Look, unseen: frozenset[str]) -> list[Look]:
    """Looks that differ in some of the free fields, without a thing in the colour that training may not see it in."""
    looks = [
        look._replace(**dict(zip(free, values, strict=True))) for values in product(*(getattr(world, f) for f in free))
    ]
    return [other for other in looks if other != look and (_pair(other) == _pair(look) or _pair(other) not in unseen)]


def _among(look: Look, others: Sequence[Look], rng: Generator) -> list[Look]:
    """The truth at a place by chance among some of the others."""
    options = [others[place] for place in rng.permutation(len(others))[: NUM_OPTIONS - 1]]
    options.insert(int(rng.random() * NUM_OPTIONS), look)
    return options


def _pair(look: Look) -> str:
    return f"{look.colour} {look.name}"


def _fill(words: str, look: Look) -> str:
    thing = f"{look.texture} {_pair(look)}"
    return words.format(**look._asdict(), a_name=a(look.name), a_background=a(look.background), a_thing=a(thing))
