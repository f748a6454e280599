"""How objects are put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from diptych.data.scenes.plan import Plan, PlannedObject

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLURALS = {"fish": "fish", "leaf": "leaves", "cross": "crosses"}


def a(words: str) -> str:
    """The words with their article.

    >>> a("orange star"), a("star")
    ('an orange star', 'a star')
    """
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def plural(thing: str) -> str:
    """Several of a thing."""
    return PLURALS.get(thing, f"{thing}s")


def colour_thing(planned: PlannedObject) -> str:
    """ "red star"."""
    return f"{planned.colour} {planned.thing}"


def in_full(planned: PlannedObject) -> str:
    """ "small striped red star"."""
    return f"{planned.size} {planned.texture} {planned.colour} {planned.thing}"


def listed(phrases: Sequence[str]) -> str:
    """ "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def tallied(nouns: Iterable[str]) -> list[str]:
    """Every noun once, with its article or its number.

    >>> tallied(["star", "house", "star"])
    ['two stars', 'a house']
    """
    counts = Counter(nouns)
    return [a(noun) if num == 1 else f"{NUMBERS[num]} {plural_of(noun)}" for noun, num in counts.items()]


def plural_of(noun: str) -> str:
    """The plural of a phrase whose last word is a thing."""
    *before, thing = noun.split(" ")
    return " ".join([*before, plural(thing)])


def is_alone(plan: Plan, thing: str) -> bool:
    """Whether "the star" says which object is meant."""
    return sum(planned.thing == thing for planned in plan.objects) == 1


def how_many(num: int) -> str:
    """ "one thing", "two things"."""
    return "one thing" if num == 1 else f"{NUMBERS[num]} things"
