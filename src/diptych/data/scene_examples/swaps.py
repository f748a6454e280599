"""Examples that need no scene: each text that stays a text when two of its words are swapped, with what it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.data.examples import Example
from diptych.data.swapped import SwappedWords
from diptych.data.table import Rows
from diptych.data.text_kinds import KINDS_COLUMN, columns_of, places_of_kinds

KIND = "relation"
"""The kind of a scene's texts that never stay true, as "a star and a car" does, and of which every word counts."""


def texts(words: SwappedWords, rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The texts of each row ("swapped"); where a table says of which kinds they are, those of relations."""
    kinds = (KIND,) if KINDS_COLUMN in rows.columns else ()
    for row in range(len(rows)):
        sample = rows.sample(row, columns_of(kinds))
        found = {place: words.of(sample.texts[place]) for place in places_of_kinds(sample, kinds)}
        yield [
            Example(
                key=f"{sample.key}-swapped{place}",
                pictures=(sample.key,),
                texts=(sample.texts[place],),
                kind=sample.fields[KINDS_COLUMN][place] if kinds else "text",
                swapped=tuple(swapped),
            )
            for place, swapped in found.items()
            if swapped
        ]
