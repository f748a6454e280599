"""Where objects go: sizes that fit, places that do not touch, and how they then stand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.data.sample import Rng
from diptych.data.scenes.pose import Pose
from diptych.data.scenes.settings import SIZES, SceneSettings

MARGIN = 0.025
"""Free border of the picture. All lengths here are shares of the picture's width."""
GAP = 0.035
"""Least distance of two objects: more than two pixels at 64 px, so that exact boxes never meet."""
DOMINANCE = 1.3
"""An object is left of another when it lies wholly there and this many times more left than up or down."""

OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATIONS = (*OPPOSITES, "inside")

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """Where a posed thing stands and how large."""

    pose: Pose
    size: int
    """A place in SIZES."""
    side: float
    """The longer side."""
    x: float = 0.0
    y: float = 0.0
    """The upper left corner."""

    @property
    def width(self) -> float:
        """From its leftmost point to its rightmost."""
        return self.side * self.pose.width

    @property
    def height(self) -> float:
        """From its highest point to its lowest."""
        return self.side * self.pose.height

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1)."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True, kw_only=True)
class Relation:
    """How one object stands to another; both are numbers within their scene."""

    subject: int
    name: str
    object: int


def relation_between(one: Box, other: Box) -> str | None:
    """The one of left of, right of, above and below that holds beyond doubt, or None."""
    right = (one[0] + one[2] - other[0] - other[2]) / 2
    down = (one[1] + one[3] - other[1] - other[3]) / 2
    if abs(right) >= DOMINANCE * abs(down):
        if one[2] <= other[0]:
            return "left of"
        return "right of" if one[0] >= other[2] else None
    if abs(down) >= DOMINANCE * abs(right):
        if one[3] <= other[1]:
            return "above"
        return "below" if one[1] >= other[3] else None
    return None


def place_single(settings: SceneSettings, rng: Rng, pose: Pose, foot: float) -> Place:
    """A place for an object alone; nothing of it lies below `foot`."""
    wide, high = (1 - 2 * MARGIN) / pose.width, (foot - 2 * MARGIN) / pose.height
    most = min(wide, high)
    sizes = [
        size for size in range(len(SIZES)) if _range(settings, size, first=True)[0] < min(most, settings.sides[size][1])
    ]
    size = sizes[int(rng.random() * len(sizes))] if sizes else 0
    low, top = _range(settings, size, first=True)
    place = Place(pose=pose, size=size, side=min(_between(rng, low, min(top, most)), most))
    x = _between(rng, MARGIN, 1 - MARGIN - place.width)
    y = _between(rng, MARGIN, foot - MARGIN - place.height)
    return replace(place, x=x, y=y)


def place_pair(
    settings: SceneSettings, rng: Rng, first: Pose, second: Pose, *, nest: bool
) -> tuple[tuple[Place, Place], Relation] | None:
    """Places for two objects so that one relation clearly holds, or None where nothing fits.

    Args:
        nest: the second may lie inside the first.
    """
    names = [name for name in RELATIONS if nest or name != "inside"]
    while names:
        name = names.pop(int(rng.random() * len(names)))
        if name == "inside":
            places = _nested(settings, rng, first, second)
            relation = Relation(subject=1, name=name, object=0)
        else:
            places = _side_by_side(settings, rng, first, second, name)
            relation = Relation(subject=0, name=name, object=1)
        if places is not None:
            return places, relation
    return None


def _side_by_side(
    settings: SceneSettings, rng: Rng, first: Pose, second: Pose, name: str
) -> tuple[Place, Place] | None:
    """Places of two objects in a row (left of, right of) or a column (above, below)."""
    axis = 0 if name in ("left of", "right of") else 1
    free = 1 - 2 * MARGIN - GAP
    spans = [(pose.width, pose.height)[axis] for pose in (first, second)]
    fitting = [
        (one, two)
        for one in range(len(SIZES))
        for two in range(len(SIZES))
        if _fits(settings, one, two)
        and _range(settings, one, first=True)[0] * spans[0] + _range(settings, two, first=False)[0] * spans[1] < free
    ]
    if not fitting:
        return None
    one, two = fitting[int(rng.random() * len(fitting))]
    (low, high), (other_low, other_high) = _range(settings, one, first=True), _range(settings, two, first=False)
    side = _between(rng, low, min(high, (free - other_low * spans[1]) / spans[0]))
    other = _between(rng, other_low, min(other_high, (free - side * spans[0]) / spans[1]))
    pair = (Place(pose=first, size=one, side=side), Place(pose=second, size=two, side=other))
    near_first = name in ("left of", "above")
    row = _line_up(rng, pair if near_first else pair[::-1], axis)
    return row if near_first else (row[1], row[0])


def _line_up(rng: Rng, row: tuple[Place, Place], axis: int) -> tuple[Place, Place]:
    """Spreads two objects along an axis by chance, and across it no farther than the relation bears."""
    lengths = [(place.width, place.height)[axis] for place in row]
    across = [(place.height, place.width)[axis] for place in row]
    slack = 1 - 2 * MARGIN - GAP - sum(lengths)
    start = MARGIN + rng.random() * slack
    then = start + lengths[0] + GAP + rng.random() * (MARGIN + slack - start)
    distance = then + lengths[1] / 2 - start - lengths[0] / 2
    wide, slim = (0, 1) if across[0] >= across[1] else (1, 0)
    middle = _between(rng, MARGIN + across[wide] / 2, 1 - MARGIN - across[wide] / 2)
    reach = 0.6 * distance
    low = max(MARGIN + across[slim] / 2, middle - reach)
    high = min(1 - MARGIN - across[slim] / 2, middle + reach)
    middles = {wide: middle, slim: _between(rng, low, high)}
    offsets = [middles[number] - across[number] / 2 for number in (0, 1)]
    first, second = (
        replace(place, x=along, y=offset) if axis == 0 else replace(place, x=offset, y=along)
        for place, along, offset in zip(row, (start, then), offsets, strict=True)
    )
    return first, second


def _nested(settings: SceneSettings, rng: Rng, outer: Pose, inner: Pose) -> tuple[Place, Place] | None:
    """Places of two objects, the second wholly within the body of the first."""
    if outer.room is None:
        return None
    x, y, share = outer.room
    fitting = [
        (one, two)
        for one in range(len(SIZES))
        for two in range(len(SIZES))
        if _fits(settings, one, two) and _range(settings, two, first=False)[0] < share * settings.sides[one][1]
    ]
    if not fitting:
        return None
    one, two = fitting[int(rng.random() * len(fitting))]
    low, high = _range(settings, two, first=False)
    main_low, main_high = _range(settings, one, first=True)
    main = place_at_chance(rng, Place(pose=outer, size=one, side=_between(rng, max(main_low, low / share), main_high)))
    room = share * main.side
    other = Place(pose=inner, size=two, side=_between(rng, low, min(high, room)))
    left = main.x + x * main.side - room / 2
    top = main.y + y * main.side - room / 2
    return main, replace(
        other, x=_between(rng, left, left + room - other.width), y=_between(rng, top, top + room - other.height)
    )


def place_others(
    settings: SceneSettings, rng: Rng, poses: Sequence[Pose], placed: Sequence[Place], *, tries: int = 24
) -> list[Place]:
    """Places for further objects, clear of those that stand already, until one finds none."""
    places = list(placed)
    for pose in poses:
        sizes = [size for size in range(len(SIZES)) if _fits(settings, 0, size) or _fits(settings, 2, size)]
        size = sizes[int(rng.random() * len(sizes))]
        place = Place(pose=pose, size=size, side=_between(rng, *_range(settings, size, first=False)))
        for _ in range(tries):
            candidate = place_at_chance(rng, place)
            if all(_clear(candidate.box, other.box) for other in places):
                places.append(candidate)
                break
        else:
            return places
    return places


def relations_of(places: Sequence[Place], made_for: Relation) -> tuple[Relation, ...]:
    """Every relation that holds beyond doubt, the one that the scene was made for first."""
    found = [made_for]
    for subject, one in enumerate(places):
        for number, other in enumerate(places):
            name = relation_between(one.box, other.box) if subject != number else None
            if name is not None and (subject, number) != (made_for.subject, made_for.object):
                found.append(Relation(subject=subject, name=name, object=number))
    return tuple(found)


def place_at_chance(rng: Rng, place: Place) -> Place:
    """The same object anywhere in the picture."""
    x = _between(rng, MARGIN, 1 - MARGIN - place.width)
    return replace(place, x=x, y=_between(rng, MARGIN, 1 - MARGIN - place.height))


def _clear(one: Box, other: Box) -> bool:
    apart = one[2] + GAP <= other[0] or other[2] + GAP <= one[0]
    return apart or one[3] + GAP <= other[1] or other[3] + GAP <= one[1]


def _range(settings: SceneSettings, size: int, *, first: bool) -> tuple[float, float]:
    """The longer sides that an object of this size may have, the first object or another."""
    low, high = settings.sides[size]
    return (max(low, settings.main_side), high) if first else (low, min(high, settings.other_side))


def _fits(settings: SceneSettings, one: int, two: int) -> bool:
    """Whether the first object may be of size `one` and another of size `two`."""
    ranges = (_range(settings, one, first=True), _range(settings, two, first=False))
    return all(low < high for low, high in ranges)


def _between(rng: Rng, low: float, high: float) -> float:
    return low + rng.random() * max(0.0, high - low)
