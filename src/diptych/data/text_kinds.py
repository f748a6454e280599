"""Kinds of texts: of a row's texts, which one is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.data.sample import Rng, Sample
from diptych.errors import DataError

KINDS_COLUMN = "text_kinds"
"""The own column that says, for each text of a row, what kind it is of; the built-in scenes have it."""


def columns_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """The columns that a sample needs where texts of some kinds are wanted."""
    return (KINDS_COLUMN,) if kinds else ()


def chosen_place(sample: Sample, rng: Rng | None, kinds: Sequence[str] = ()) -> int:
    """Of one of the sample's texts: with `rng` None the first, else any, or any of these kinds where it has some."""
    places = places_of_kinds(sample, kinds) or range(len(sample.texts))
    return places[0 if rng is None else int(rng.integers(len(places)))]


def places_of_kinds(sample: Sample, kinds: Sequence[str]) -> list[int]:
    """The places of the sample's texts that are of some kinds, by its column; none where that column is empty.

    Raises:
        DataError: the column names not as many kinds as there are texts.
    """
    if not kinds:
        return list(range(len(sample.texts)))
    named = sample.fields[KINDS_COLUMN]
    if not named:
        return []
    if len(named) != len(sample.texts):
        raise DataError(f"{sample.key} has {len(sample.texts)} texts and {len(named)} in the column {KINDS_COLUMN!r}")
    return [place for place, kind in enumerate(named) if kind in kinds]
