"""The dials of the picture world, and its two named styles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from diptych.data.scenes.more_things import more_things
from diptych.data.scenes.palette import BACKGROUNDS, COLOURS, TEXTURES
from diptych.data.scenes.things import Thing, easy_things
from diptych.errors import UsageError, unknown

THINGS: tuple[Thing, ...] = (*easy_things(), *more_things())
"""Everything that can stand in a scene; a world with k things has the first k."""

SIZES = ("small", "medium", "large")

STYLES = ("easy", "hard")


@dataclass(frozen=True, kw_only=True)
class TextMix:
    """How often a text is of which kind, relative to the other kinds that its scene allows."""

    things: float = 0.35
    """Things only: "a star". A quarter at least is needed if shapes are to be learned from contrast."""
    colour_thing: float = 0.12
    """ "a red star"."""
    full: float = 0.20
    """Everything: size, texture, colour, thing, relation, background."""
    partial: float = 0.06
    """Some of it."""
    attribute: float = 0.15
    """Size or texture with a thing."""
    count: float = 0.02
    """ "two things"."""
    relation: float = 0.36
    """Where two things stand to each other; only scenes that have one (a third of the easy ones) can say it."""
    word: float = 0.60
    """The written word, where there is one."""

    def __post_init__(self) -> None:
        """Raises UsageError where no kind, or one less than never, is asked for."""
        everywhere = {name: share for name, share in asdict(self).items() if name not in ("relation", "word")}
        _check_weights("mix", asdict(self))
        if not sum(everywhere.values()):
            raise UsageError(
                f"mix leaves nothing to say of a scene with one object and no word; give one of "
                f"{', '.join(everywhere)} more than 0"
            )


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """A picture world. Lengths are shares of the picture's width."""

    num: int = 10_000
    """Scenes in all splits together."""
    seed: int = 0
    size_px: int = 96
    """Width and height."""
    num_things: int = 14
    num_colours: int = 10
    num_backgrounds: int = 6
    num_textures: int = 3
    objects: tuple[float, ...] = (0.65, 0.35)
    """How often a scene has one object, two, three ..."""
    sides: tuple[tuple[float, float], ...] = ((0.26, 0.62), (0.68, 0.74), (0.80, 0.86))
    """What small, medium and large mean: the range of an object's longer side."""
    main_side: float = 0.56
    """The first object's longer side is at least this."""
    other_side: float = 0.34
    """The longer side of every other object is at most this."""
    clutter: int = 0
    """Flecks on the background that are nothing."""
    patterns: bool = False
    """Whether backgrounds carry a faint pattern."""
    repeats: bool = False
    """Whether a scene may show a thing or a colour twice."""
    words: float = 0.03
    """Share of the scenes with one object that also carry a written word."""
    num_texts: int = 6
    """Texts of a scene; a loader that picks one of them evenly sees the mix."""
    mix: TextMix = field(default_factory=TextMix)

    def __post_init__(self) -> None:
        _check_range("num", self.num, 16, 10_000_000)
        _check_range("size_px", self.size_px, 32, 1024)
        _check_range("num_things", self.num_things, 4, len(THINGS))
        _check_range("num_colours", self.num_colours, 4, len(COLOURS))
        _check_range("num_backgrounds", self.num_backgrounds, 2, len(BACKGROUNDS))
        _check_range("num_textures", self.num_textures, 2, len(TEXTURES))
        _check_range("num_texts", self.num_texts, 4, 12)
        _check_range("objects", len(self.objects), 1, 6)
        _check_range("clutter", self.clutter, 0, 1000)
        for name in ("words", "main_side", "other_side"):
            _check_share(name, getattr(self, name))
        self._check_objects()
        self._check_sides()

    def _check_objects(self) -> None:
        _check_weights("objects", {f"{number}": share for number, share in enumerate(self.objects, 1)})
        if not sum(self.objects):
            raise UsageError("objects is 0 throughout; say how often a scene has one object, two ..., e.g. 0.65,0.35")
        most = max(number for number, share in enumerate(self.objects, 1) if share)
        if not self.repeats and most > min(self.num_things, self.num_colours):
            raise UsageError(
                f"objects asks for scenes of {most}, each of a thing and a colour of its own, and there are "
                f"{self.num_things} things and {self.num_colours} colours; ask for fewer objects or set repeats=true"
            )

    def _check_sides(self) -> None:
        if len(self.sides) != len(SIZES):
            raise UsageError(f"sides has {len(self.sides)} ranges; it needs one for each of {', '.join(SIZES)}")
        for name, (low, high) in zip(SIZES, self.sides, strict=True):
            if not 0 < low <= high <= 1:
                raise UsageError(
                    f"sides of {name} objects go from {low} to {high}; expected two shares of the picture's width "
                    "between 0 and 1, the smaller first"
                )

    @property
    def things(self) -> tuple[Thing, ...]:
        """The things of this world; an object's label is a place in it."""
        return THINGS[: self.num_things]

    @property
    def colours(self) -> tuple[str, ...]:
        """Names of the colours that things have."""
        return tuple(COLOURS)[: self.num_colours]

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """Names of the backgrounds."""
        return tuple(BACKGROUNDS)[: self.num_backgrounds]

    @property
    def textures(self) -> tuple[str, ...]:
        """Names of the textures, "plain" first."""
        return TEXTURES[: self.num_textures]


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}; a picture world takes {low} to {high}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} is {value}; expected a share between 0 and 1")


def _check_weights(name: str, weights: Mapping[str, float]) -> None:
    for part, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UsageError(f"{name}: the weight of {part} is {weight}; expected 0 or more")


def easy(*, num: int = 10_000, seed: int = 0, size_px: int = 96) -> SceneSettings:
    """The demo's world: few things, large, mostly alone, on calm backgrounds. A small CLIP learns it in minutes."""
    return SceneSettings(num=num, seed=seed, size_px=size_px)


def hard(*, num: int = 10_000, seed: int = 0, size_px: int = 96) -> SceneSettings:
    """For research: 28 things, some alike, in three true sizes, up to five a scene, among clutter and patterns."""
    return SceneSettings(
        num=num,
        seed=seed,
        size_px=size_px,
        num_things=len(THINGS),
        num_colours=len(COLOURS),
        num_backgrounds=len(BACKGROUNDS),
        num_textures=len(TEXTURES),
        objects=(0.2, 0.3, 0.25, 0.15, 0.1),
        sides=((0.17, 0.22), (0.28, 0.34), (0.42, 0.5)),
        main_side=0.0,
        other_side=1.0,
        clutter=14,
        patterns=True,
        repeats=True,
        words=0.25,
        mix=TextMix(relation=0.20, count=0.05),
    )


def style(name: str, *, num: int = 10_000, seed: int = 0, size_px: int = 96) -> SceneSettings:
    """The settings that go by a name of STYLES.

    Raises:
        UsageError: there is no such style, or a number is out of range.
    """
    match name:
        case "easy":
            return easy(num=num, seed=seed, size_px=size_px)
        case "hard":
            return hard(num=num, seed=seed, size_px=size_px)
        case _:
            raise UsageError(unknown("style", name, STYLES))
