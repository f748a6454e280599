"""Examples that need no scene: each text that reads well when two of its words are swapped, with what it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.data.examples import Example, is_of_scenes
from diptych.data.swapped import SwappedWords
from diptych.data.table import Rows
from diptych.data.text_kinds import columns_of, places_of_kinds

RELATION = "relation"
"""The kind of a scene's texts of which every word counts, and which are seldom true when two are swapped."""


def texts(words: SwappedWords, rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The texts of each row ("swapped"); of scenes those of relations."""
    kinds = (RELATION,) if is_of_scenes(meta) else ()
    for row in range(len(rows)):
        sample = rows.sample(row, columns_of(kinds))
        found = {
            place: [text for text in words.of(sample.texts[place]) if text not in sample.texts]
            for place in places_of_kinds(sample, kinds)
        }
        yield [
            Example(
                key=f"{sample.key}-swapped{place}",
                group=sample.group,
                pictures=(sample.key,),
                texts=(sample.texts[place],),
                kind=RELATION if kinds else "text",
                swapped=tuple(swapped),
            )
            for place, swapped in found.items()
            if swapped
        ]
