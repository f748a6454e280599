"""Choices: several texts of which one is true, to measure what a model tells apart; asked in evaluation splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diptych.data.sample import Rng
from diptych.data.scenes.grammar import a, is_alone
from diptych.data.scenes.placing import OPPOSITES
from diptych.data.scenes.plan import Plan, pick
from diptych.data.scenes.settings import SIZES, SceneSettings
from diptych.data.scenes.splits import seen_pairs, unseen_pairs

KINDS = ("things", "colours", "sizes", "textures", "relations", "binding", "pairs", "unseen_pairs")


def choices_about(settings: SceneSettings, plan: Plan, rng: Rng) -> list[dict[str, Any]]:
    """Every kind of choice that has one right answer here: about the thing where it is alone, else about two things."""
    if len(plan.objects) == 1:
        return [] if plan.word is not None else list(_about_one(settings, plan))
    return list(_about_two(settings, plan, rng))


def _about_one(settings: SceneSettings, plan: Plan) -> Iterator[dict[str, Any]]:
    planned = plan.objects[0]
    thing, colour = planned.thing, planned.colour
    yield _choice("things", [a(other.name) for other in settings.things], a(thing))
    yield _choice("colours", [a(f"{other} {thing}") for other in settings.colours], a(f"{colour} {thing}"))
    yield _choice("sizes", [a(f"{other} {thing}") for other in SIZES], a(f"{planned.size} {thing}"))
    yield _choice("textures", [a(f"{other} {thing}") for other in settings.textures], a(f"{planned.texture} {thing}"))
    pairs = [a(f"{other} {name.name}") for name in settings.things for other in settings.colours]
    unseen = (planned.label, settings.colours.index(colour)) in unseen_pairs(settings)
    yield _choice("unseen_pairs" if unseen else "pairs", pairs, a(f"{colour} {thing}"))


def _about_two(settings: SceneSettings, plan: Plan, rng: Rng) -> Iterator[dict[str, Any]]:
    made_for = plan.relations[0]
    turned = [said for said in plan.relations if (said.subject, said.object) == (made_for.object, made_for.subject)]
    # Either object may be named first: were it always the larger one, "the larger comes first" would answer both.
    asked = pick(rng, [made_for, *turned])
    one, other = plan.objects[asked.subject], plan.objects[asked.object]
    if not (is_alone(plan, one.thing) and is_alone(plan, other.thing)):
        return
    if asked.name in OPPOSITES:
        texts = [f"{a(one.thing)} {way} {a(other.thing)}" for way in (asked.name, OPPOSITES[asked.name])]
        yield _shuffled("relations", texts, rng)
    elif rng.random() < 0.5:
        one, other = other, one
    numbers = [settings.colours.index(planned.colour) for planned in (one, other)]
    swapped = {(one.label, numbers[1]), (other.label, numbers[0])}
    # A wrong text must be as likely as the right one to whoever looks at words alone.
    if one.colour != other.colour and swapped <= set(seen_pairs(settings)):
        right = f"{a(f'{one.colour} {one.thing}')} and {a(f'{other.colour} {other.thing}')}"
        wrong = f"{a(f'{other.colour} {one.thing}')} and {a(f'{one.colour} {other.thing}')}"
        yield _shuffled("binding", [right, wrong], rng)


def _choice(kind: str, texts: Sequence[str], right: str) -> dict[str, Any]:
    return {"kind": kind, "texts": list(texts), "answer": texts.index(right)}


def _shuffled(kind: str, texts: list[str], rng: Rng) -> dict[str, Any]:
    """The first of two texts is right; it comes first or second by chance."""
    return _choice(kind, texts if rng.random() < 0.5 else texts[::-1], texts[0])
