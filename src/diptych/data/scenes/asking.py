"""What can be asked of a scene: statements to judge, questions to answer, phrases that point at one object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diptych.data.sample import Rng
from diptych.data.scenes.grammar import NUMBERS, a, how_many, is_alone
from diptych.data.scenes.placing import OPPOSITES, Relation
from diptych.data.scenes.plan import Plan, PlannedObject, pick
from diptych.data.scenes.settings import SIZES, SceneSettings
from diptych.data.scenes.splits import seen_pairs

NUM_STATEMENTS = 4
NUM_QUESTIONS = 5


def statements_about(settings: SceneSettings, plan: Plan, rng: Rng) -> list[dict[str, Any]]:
    """Statements, half of them true; a false one changes one fact, and never names a pair that training may not see."""
    kinds = [_existence, _quality, _relation, _count, _background]
    kinds = [kind for kind in kinds if kind is not _relation or _clear_relations(plan)]
    start, truth = int(rng.random() * len(kinds)), rng.random() < 0.5
    statements = []
    for number in range(NUM_STATEMENTS):
        text = kinds[(start + number) % len(kinds)](settings, plan, rng, truth=truth)
        statements.append({"text": text, "truth": truth})
        truth = not truth
    return statements


def _existence(settings: SceneSettings, plan: Plan, rng: Rng, *, truth: bool) -> str:
    there = [(planned.thing, planned.colour) for planned in plan.objects]
    thing, colour = pick(rng, there)
    pairs = _named_pairs(settings)
    absent = [pair for pair in pairs if pair not in there]
    # A crowd may show all colours that its thing may have; then another thing is named.
    same_thing = rng.random() < 0.5 and any(name == thing for name, _ in absent)
    while not truth and (thing, colour) in there:
        named = pick(rng, pairs)
        if not same_thing or named[0] == thing:
            thing, colour = named
    return f"there is {a(f'{colour} {thing}')}"


def _named_pairs(settings: SceneSettings) -> list[tuple[str, str]]:
    """(thing, colour) of every pair that training may see."""
    return [(settings.things[label].name, settings.colours[number]) for label, number in seen_pairs(settings)]


def _quality(settings: SceneSettings, plan: Plan, rng: Rng, *, truth: bool) -> str:
    alone = [planned for planned in plan.objects if is_alone(plan, planned.thing)]
    if not alone:
        return _count(settings, plan, rng, truth=truth)
    planned = pick(rng, alone)
    said, possible = pick(rng, _qualities(settings, planned))
    if not truth:
        said = pick(rng, [other for other in possible if other != said])
    return f"the {planned.thing} is {said}"


def _qualities(settings: SceneSettings, planned: PlannedObject) -> list[tuple[str, Sequence[str]]]:
    """What the object is, each with everything that it could be."""
    colours = [settings.colours[number] for label, number in seen_pairs(settings) if label == planned.label]
    return [(planned.colour, colours), (planned.texture, settings.textures), (planned.size, SIZES)]


def _relation(settings: SceneSettings, plan: Plan, rng: Rng, *, truth: bool) -> str:
    relation = pick(rng, _clear_relations(plan))
    subject, other = plan.objects[relation.subject].thing, plan.objects[relation.object].thing
    if truth:
        return f"the {subject} is {relation.name} the {other}"
    if relation.name in OPPOSITES:
        return f"the {subject} is {OPPOSITES[relation.name]} the {other}"
    return f"the {other} is {relation.name} the {subject}"


def _count(settings: SceneSettings, plan: Plan, rng: Rng, *, truth: bool) -> str:
    num = len(plan.objects)
    if not truth:
        num = pick(rng, [other for other in range(1, max(3, len(settings.objects) + 1)) if other != num])
    return f"there {'is' if num == 1 else 'are'} {how_many(num)}"


def _background(settings: SceneSettings, plan: Plan, rng: Rng, *, truth: bool) -> str:
    others = [name for name in settings.backgrounds if name != plan.background]
    return f"the background is {plan.background if truth else pick(rng, others)}"


def _clear_relations(plan: Plan) -> list[Relation]:
    """Those whose two things are each the only one of their name."""
    return [
        relation
        for relation in plan.relations
        if all(is_alone(plan, plan.objects[number].thing) for number in (relation.subject, relation.object))
    ]


def questions_about(settings: SceneSettings, plan: Plan, rng: Rng) -> list[dict[str, str]]:
    """Some of the questions that the scene has one right answer to, in an order by chance."""
    asked = list(_questions(settings, plan, rng))
    chosen = list[dict[str, str]]()
    while asked and len(chosen) < NUM_QUESTIONS:
        question, answer, kind = asked.pop(int(rng.random() * len(asked)))
        chosen.append({"question": question, "answer": answer, "kind": kind})
    return chosen


def _questions(settings: SceneSettings, plan: Plan, rng: Rng) -> Iterator[tuple[str, str, str]]:
    yield "how many things are there?", NUMBERS[len(plan.objects)], "count"
    yield "what colour is the background?", plan.background, "background"
    yield _whether_there(settings, plan, rng)
    for planned in plan.objects:
        if is_alone(plan, planned.thing):
            yield f"what colour is the {planned.thing}?", planned.colour, "colour"
            yield f"what is the texture of the {planned.thing}?", planned.texture, "texture"
            yield f"how large is the {planned.thing}?", planned.size, "size"
    yield from _about_relations(plan, rng)
    if plan.word is not None:
        yield "what word is written?", plan.word, "word"


def _whether_there(settings: SceneSettings, plan: Plan, rng: Rng) -> tuple[str, str, str]:
    there = {planned.thing for planned in plan.objects}
    thing = pick(rng, plan.objects).thing
    absent = [other.name for other in settings.things if other.name not in there]
    if rng.random() < 0.5 and absent:
        thing = pick(rng, absent)
    return f"is there {a(thing)}?", "yes" if thing in there else "no", "existence"


def _about_relations(plan: Plan, rng: Rng) -> Iterator[tuple[str, str, str]]:
    clear = _clear_relations(plan)
    for relation in clear:
        subject, other = plan.objects[relation.subject].thing, plan.objects[relation.object].thing
        # With a third object about, "what is left of the star?" may have a second answer that is only doubtful.
        if len(plan.objects) == 2:
            yield f"what is {relation.name} the {other}?", subject, "relation"
    if clear:
        relation, yes = pick(rng, clear), rng.random() < 0.5
        subject, other = plan.objects[relation.subject].thing, plan.objects[relation.object].thing
        if not yes:
            subject, other = other, subject
        yield f"is the {subject} {relation.name} the {other}?", "yes" if yes else "no", "relation"


def refer_to(plan: Plan, rng: Rng) -> list[str]:
    """For every object a phrase that points at it and at no other; "" where words that few do not suffice."""
    return [_refer(plan, number, rng) for number in range(len(plan.objects))]


def _refer(plan: Plan, number: int, rng: Rng) -> str:
    planned = plan.objects[number]
    wordings = [_wordings(other) for other in plan.objects]
    fitting = [f"the {text}" for text in wordings[number] if sum(text in others for others in wordings) == 1]
    for relation in _clear_relations(plan):
        if relation.subject == number:
            fitting.append(f"the {planned.thing} {relation.name} the {plan.objects[relation.object].thing}")
    return pick(rng, fitting) if fitting else ""


def _wordings(planned: PlannedObject) -> tuple[str, ...]:
    """Phrases that are true of the object, in a fixed order."""
    thing, colour, texture, size = planned.thing, planned.colour, planned.texture, planned.size
    return (
        thing,
        f"{colour} {thing}",
        f"{texture} {thing}",
        f"{size} {thing}",
        f"{texture} {colour} {thing}",
        f"{size} {colour} {thing}",
        f"{colour} thing",
        f"{texture} thing",
        f"{size} {texture} {colour} {thing}",
    )
