"""The texts of a scene: kinds by the mix, several ways to say the same."""

from __future__ import annotations

from dataclasses import fields

from diptych.data.sample import Rng
from diptych.data.scenes.grammar import a, colour_thing, how_many, in_full, is_alone, listed, tallied
from diptych.data.scenes.plan import Plan, pick
from diptych.data.scenes.settings import SceneSettings, TextMix

KINDS = tuple(field.name for field in fields(TextMix))
"""What a text says; the first text of every scene is full."""

WAYS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "inside": ("inside", "in"),
}
FRAMES = ("{}", "{}", "a picture of {}", "a drawing of {}", "here we see {}", "one can see {}", "this shows {}")
FULL_FRAMES = (
    "{} on {} background",
    "a picture of {} on {} background",
    "{} against {} background",
    "there is {} on {} background",
    "here we see {} in front of {} background",
)
TRIES = 6


def texts_of(settings: SceneSettings, plan: Plan, rng: Rng) -> tuple[list[str], list[str]]:
    """Texts of a scene and their kinds, the full one first. No text comes twice."""
    texts, kinds = list[str](), list[str]()
    for kind in _kinds(settings, plan, rng):
        for _ in range(TRIES):
            text = write(kind, plan, rng)
            if text not in texts:
                texts.append(text)
                kinds.append(kind)
                break
    return texts, kinds


def _kinds(settings: SceneSettings, plan: Plan, rng: Rng) -> list[str]:
    """Kinds of a scene's texts: as near to the mix as whole numbers allow, and right on average over scenes."""
    shares = [(kind, getattr(settings.mix, kind)) for kind in KINDS if _can_say(kind, plan)]
    step = sum(share for _, share in shares) / settings.num_texts
    kinds, reached, at = list[str](), 0.0, rng.random() * step
    for kind, share in shares:
        reached += share
        while at < reached:
            kinds.append(kind)
            at += step
    first = "full" if "full" in kinds else None
    if first is None:
        kinds.pop()
    else:
        kinds.remove(first)
    return ["full", *kinds]


def _can_say(kind: str, plan: Plan) -> bool:
    if kind == "relation":
        return bool(plan.relations)
    return plan.word is not None if kind == "word" else True


def write(kind: str, plan: Plan, rng: Rng) -> str:
    """One text of a kind."""
    match kind:
        case "full":
            return full_text(plan, int(rng.random() * len(FULL_FRAMES)))
        case "things":
            return _names(plan, rng)
        case "colour_thing":
            return _coloured(plan, rng)
        case "partial":
            return _partial(plan, rng)
        case "attribute":
            return _attribute(plan, rng)
        case "count":
            return _count(plan, rng)
        case "relation":
            return _relation(plan, rng)
        case "word":
            return _word(plan, rng)
        case _:
            raise ValueError(f"no kind of text {kind!r}: one of {KINDS}")


def full_text(plan: Plan, frame: int = 0) -> str:
    """Everything that a scene shows. Its first object can be read off it, whatever the frame; so can all else."""
    phrases = [a(in_full(planned)) for planned in plan.objects]
    if plan.relations:
        made_for = plan.relations[0]
        related = f"{phrases[made_for.subject]} {made_for.name} {phrases[made_for.object]}"
        phrases = [related, *phrases[2:]]
    if plan.word is not None:
        phrases.append(f"the word {plan.word}")
    return FULL_FRAMES[frame].format(listed(phrases), a(plan.background))


def _framed(phrase: str, rng: Rng) -> str:
    return pick(rng, FRAMES).format(phrase)


def _names(plan: Plan, rng: Rng) -> str:
    if len(plan.objects) == 1 and rng.random() < 0.1:
        return plan.objects[0].thing
    return _framed(_in_any_order([planned.thing for planned in plan.objects], rng), rng)


def _coloured(plan: Plan, rng: Rng) -> str:
    if len(plan.objects) == 1 and rng.random() < 0.2:
        return f"the {plan.objects[0].thing} is {plan.objects[0].colour}"
    return _framed(_in_any_order([colour_thing(planned) for planned in plan.objects], rng), rng)


def _in_any_order(nouns: list[str], rng: Rng) -> str:
    start = int(rng.random() * len(nouns))
    return listed(tallied([*nouns[start:], *nouns[:start]]))


def _partial(plan: Plan, rng: Rng) -> str:
    planned, ground = pick(rng, plan.objects), f"{a(plan.background)} background"
    match int(rng.random() * 5):
        case 0:
            return f"{a(colour_thing(planned))} on {ground}"
        case 1:
            return f"{ground} with {a(planned.thing)} on it"
        case 2:
            return f"something {planned.texture} and {planned.colour}"
        case 3:
            return f"something {planned.colour} on {ground}"
        case _:
            return _framed(a(f"{planned.size} {planned.colour} {planned.thing}"), rng)


def _attribute(plan: Plan, rng: Rng) -> str:
    planned = pick(rng, plan.objects)
    quality = planned.size if rng.random() < 0.5 else planned.texture
    if is_alone(plan, planned.thing) and rng.random() < 0.25:
        return f"the {planned.thing} is {quality}"
    return _framed(a(f"{quality} {planned.thing}"), rng)


def _count(plan: Plan, rng: Rng) -> str:
    nouns = tallied(planned.thing for planned in plan.objects)
    repeated = [noun for noun in nouns if noun.split(" ")[0] not in ("a", "an")]
    if repeated and rng.random() < 0.5:
        return _framed(pick(rng, repeated), rng)
    num = how_many(len(plan.objects))
    return pick(rng, (num, f"a picture with {num}", f"{num}, no more", f"exactly {num}"))


def _relation(plan: Plan, rng: Rng) -> str:
    relation = pick(rng, plan.relations)  # any that holds, from either side
    subject, other, way = plan.objects[relation.subject], plan.objects[relation.object], pick(rng, WAYS[relation.name])
    if rng.random() < 0.5:
        return f"{a(colour_thing(subject))} {way} {a(colour_thing(other))}"
    if is_alone(plan, subject.thing) and is_alone(plan, other.thing) and rng.random() < 0.4:
        return f"the {subject.thing} is {way} the {other.thing}"
    return f"{a(subject.thing)} {way} {a(other.thing)}"


def _word(plan: Plan, rng: Rng) -> str:
    thing = plan.objects[0].thing
    forms = (
        f"the word {plan.word}",
        f"{a(thing)} and the word {plan.word}",
        f"a sign that says {plan.word}",
        f"{plan.word}",
    )
    return pick(rng, forms)
