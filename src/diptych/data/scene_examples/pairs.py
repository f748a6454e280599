"""Statements about two scenes ("nlvr2"), each said of two pairs: of one it is true, of the other false.

So words alone tell nothing, as in NLVR2 (arXiv:1811.00491, section 3), where a sentence is judged of several pairs. The
two pairs have one scene in common, on the same side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from diptych.data.examples import TRUTHS, Example
from diptych.data.sample import Rng, random_for
from diptych.data.scenes.grammar import NUMBERS, a, how_many
from diptych.data.scenes.plan import pick
from diptych.data.table import Rows

NUM_STATEMENTS = 2
"""Of each scene."""
MOST_STATEMENTS = 5
"""That are tried until one both holds and fails; a few scenes of a small table have none."""
MOST_OTHERS = 500
"""Scenes that a scene is paired with for that."""
KEPT = 1 << 16
"""Scenes that are kept in memory."""

Shown = tuple[tuple[str, ...], ...]
"""Of each object in a scene what it may be called."""


class Statement(NamedTuple):
    """Something that may hold of a left and a right picture."""

    kind: str
    text: str
    holds: Callable[[Shown, Shown], bool]


def statements(rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """Of each scene its statements, each twice, by a chance that its key decides."""
    shown_in = lru_cache(maxsize=KEPT)(lambda row: tuple(map(names_of, rows.values(row, ["objects"])[0])))
    for row in range(len(rows)):
        key, made = rows.key(row), list[Example]()
        for number in range(NUM_STATEMENTS):
            rng = random_for(0, 0, key, f"nlvr2/{number}")
            for statement, pair, truth in _said_twice(shown_in, len(rows), row, rng):
                made.append(
                    Example(
                        key=f"{key}-nlvr2{len(made)}",
                        pictures=tuple(rows.key(one) for one in pair),
                        texts=(statement.text,),
                        answers={TRUTHS[truth]: 1.0},
                        kind=statement.kind,
                    )
                )
        yield made


def names_of(thing: Mapping[str, Any]) -> tuple[str, ...]:
    """What an object may be called: "star", "red thing", "striped thing"."""
    return thing["name"], f"{thing['colour']} thing", f"{thing['texture']} thing"


def _said_twice(
    shown_in: Callable[[int], Shown], num_rows: int, row: int, rng: Rng
) -> list[tuple[Statement, tuple[int, int], bool]]:
    """A statement with the pair of which it holds and the pair of which it does not, in an order by chance."""
    is_left = rng.random() < 0.5
    for _ in range(MOST_STATEMENTS):
        start = int(rng.random() * num_rows)
        others = [(start + step) % num_rows for step in range(min(num_rows, MOST_OTHERS))]
        pairs = [(row, other) if is_left else (other, row) for other in others if other != row]
        if not pairs:
            break
        statement = pick(rng, KINDS)(shown_in(pairs[0][0]), shown_in(pairs[0][1]), rng)
        found: dict[bool, tuple[int, int]] = {}
        for left, right in pairs:
            found.setdefault(statement.holds(shown_in(left), shown_in(right)), (left, right))
            if len(found) == len(TRUTHS):
                order = (True, False) if rng.random() < 0.5 else (False, True)
                return [(statement, found[truth], truth) for truth in order]
    return []


def _both(left: Shown, right: Shown, rng: Rng) -> Statement:
    name = _named(pick(rng, (left, right)), rng)
    text = f"both pictures show {a(name)}"
    return Statement("both", text, lambda left, right: _shows(left, name) and _shows(right, name))


def _only_one(left: Shown, right: Shown, rng: Rng) -> Statement:
    name = _named(pick(rng, (left, right)), rng)
    text = f"only one of the pictures shows {a(name)}"
    return Statement("only one", text, lambda left, right: _shows(left, name) != _shows(right, name))


def _each(left: Shown, right: Shown, rng: Rng) -> Statement:
    one, other = _named(left, rng), _named(right, rng)
    text = f"the left picture shows {a(one)} and the right one {a(other)}"
    return Statement("each", text, lambda left, right: _shows(left, one) and _shows(right, other))


def _compared(left: Shown, right: Shown, rng: Rng) -> Statement:
    text, holds = pick(rng, COMPARISONS)
    return Statement("compared", text, lambda left, right: holds(len(left), len(right)))


def _together(left: Shown, right: Shown, rng: Rng) -> Statement:
    num = min(len(left) + len(right), len(NUMBERS) - 1)
    text = f"there are {how_many(num)} in the two pictures together"
    return Statement("together", text, lambda left, right: len(left) + len(right) == num)


KINDS: Sequence[Callable[[Shown, Shown, Rng], Statement]] = (_both, _only_one, _each, _compared, _together)
"""Each makes a statement, given two scenes of which it may hold."""

COMPARISONS: Sequence[tuple[str, Callable[[int, int], bool]]] = (
    ("the left picture shows more things than the right one", lambda left, right: left > right),
    ("the left picture shows fewer things than the right one", lambda left, right: left < right),
    ("both pictures show the same number of things", lambda left, right: left == right),
)


def _named(shown: Shown, rng: Rng) -> str:
    return pick(rng, pick(rng, shown))


def _shows(shown: Shown, name: str) -> bool:
    return any(name in names for names in shown)
