"""What a scene shows, decided before anything is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from diptych.data.sample import Rng
from diptych.data.scenes.palette import NUM_SHADES
from diptych.data.scenes.placing import Place, Relation, place_others, place_pair, place_single, relations_of
from diptych.data.scenes.pose import Pose, strike_pose
from diptych.data.scenes.settings import SIZES, SceneSettings

WORDS = (
    "tea", "open", "sale", "stop", "exit", "cafe", "zoo", "shop", "hello", "bus", "taxi", "park", "food", "milk",
    "book", "pizza", "hotel", "bank", "art", "gold", "jazz", "lunch", "north", "radio",
)  # fmt: skip
"""What may be written in a scene."""

WORD_BAND = 0.22
"""Share of the height, at the foot of the picture, that a written word has to itself."""

Pair = tuple[int, int]
"""A thing and a colour, by number."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class PlannedObject:
    """One object: what it is and where its outline goes."""

    thing: str
    label: int
    colour: str
    texture: str
    size: str
    pose: Pose
    place: Place
    shade: int
    cut: tuple[float, float]
    """Where on the cloth it is cut from, each in [0, 1)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """A scene before it is painted."""

    objects: tuple[PlannedObject, ...]
    relations: tuple[Relation, ...]
    """Those that are beyond doubt, both ways round; the first is the one the scene was made for."""
    background: str
    variant: int
    """Which way round the background lies, 0 to 7."""
    word: str | None
    flecks: tuple[tuple[float, float, float, float], ...]
    """Clutter: x, y, size and turn of each fleck, all in [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is dictated of an evaluation scene's first object, so that the scenes cover the world evenly."""

    pair: Pair
    texture: int
    background: int


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """One of `choices`, evenly."""
    return choices[int(rng.random() * len(choices))]


def pick_weighted(rng: Rng, weights: Sequence[float]) -> int:
    """A place in `weights`, in proportion to them."""
    left = rng.random() * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


def compose(settings: SceneSettings, rng: Rng, pairs: Sequence[Pair], cell: Cell | None) -> Plan:
    """Invents a scene.

    Args:
        settings: the world.
        rng: the scene's own.
        pairs: the (thing, colour) pairs that may stand in it; `cell` may name another for the first object.
        cell: what the first object must be; None leaves it to chance.
    """
    if cell is None:
        cell = _any_cell(settings, rng, pairs)
    num = 1 + pick_weighted(rng, settings.objects)
    word = pick(rng, WORDS) if num == 1 and rng.random() < settings.words else None
    looks = [cell.pair]
    while len(looks) < num:
        look = _another(settings, rng, pairs, looks)
        if look is None:
            break
        looks.append(look)
    poses = [strike_pose(label, rng) for label, _ in looks]
    places, relations = _arrange(settings, rng, poses, word=word, nest=len(looks) > 1 and looks[0][1] != looks[1][1])
    objects = tuple(
        _object(settings, rng, look, place, texture=cell.texture if number == 0 else None)
        for number, (look, place) in enumerate(zip(looks, places, strict=False))
    )
    return Plan(
        objects=objects,
        relations=relations,
        background=settings.backgrounds[cell.background],
        variant=int(rng.random() * 8),
        word=word,
        flecks=tuple((rng.random(), rng.random(), rng.random(), rng.random()) for _ in range(settings.clutter)),
    )


def _any_cell(settings: SceneSettings, rng: Rng, pairs: Sequence[Pair]) -> Cell:
    texture, background = int(rng.random() * settings.num_textures), int(rng.random() * settings.num_backgrounds)
    return Cell(pair=pick(rng, pairs), texture=texture, background=background)


def _another(settings: SceneSettings, rng: Rng, pairs: Sequence[Pair], looks: Sequence[Pair]) -> Pair | None:
    """A pair for one more object; unless the world repeats, of a thing and a colour that are new to the scene.

    None where no such pair remains: of four things in four colours, the last may be the pair kept from training.
    """
    things, colours = {thing for thing, _ in looks}, {colour for _, colour in looks}
    if not settings.repeats and all(thing in things or colour in colours for thing, colour in pairs):
        return None
    while True:
        label, colour = pick(rng, pairs)
        if settings.repeats:
            if (label, colour) not in looks or rng.random() < 0.1:
                return label, colour
        elif label not in things and colour not in colours:
            return label, colour


def _arrange(
    settings: SceneSettings, rng: Rng, poses: Sequence[Pose], *, word: str | None, nest: bool
) -> tuple[list[Place], tuple[Relation, ...]]:
    """Finds places; objects for which there is no room are left out, from the last."""
    pair = place_pair(settings, rng, poses[0], poses[1], nest=nest) if len(poses) > 1 else None
    if pair is None:
        return [place_single(settings, rng, poses[0], 1.0 if word is None else 1.0 - WORD_BAND)], ()
    places = place_others(settings, rng, poses[2:], pair[0])
    return places, relations_of(places, pair[1])


def _object(settings: SceneSettings, rng: Rng, look: Pair, place: Place, *, texture: int | None) -> PlannedObject:
    label, colour = look
    return PlannedObject(
        thing=settings.things[label].name,
        label=label,
        colour=settings.colours[colour],
        texture=pick(rng, settings.textures) if texture is None else settings.textures[texture],
        size=SIZES[place.size],
        pose=place.pose,
        place=place,
        shade=int(rng.random() * NUM_SHADES),
        cut=(rng.random(), rng.random()),
    )
