"""Examples that a scene has as it is drawn: its questions, its statements, its phrases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.data.examples import Example
from diptych.data.scenes.placing import RELATIONS
from diptych.data.table import Rows


def questions(rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The questions of each scene ("vqa"), each with its one right answer."""
    for picture, asked in _column(rows, "questions"):
        yield [
            Example(
                key=f"{picture}-vqa{number}",
                pictures=(picture,),
                texts=(one["question"],),
                answers={one["answer"]: 1.0},
                kind=one["kind"],
            )
            for number, one in enumerate(asked)
        ]


def statements(rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The statements of each scene ("ve"): entailed or contradicted."""
    for picture, asked in _column(rows, "statements"):
        yield [
            Example(
                key=f"{picture}-ve{number}",
                pictures=(picture,),
                texts=(one["text"],),
                answers={"entailment" if one["truth"] else "contradiction": 1.0},
                kind="statement",
            )
            for number, one in enumerate(asked)
        ]


def phrases(rows: Rows, meta: Mapping[str, Any]) -> Iterator[list[Example]]:
    """The phrases of each scene that mean one object ("re"), with its box; `meta` tells the size of pictures."""
    size_px = meta["settings"]["size_px"]
    for picture, asked in _column(rows, "referring"):
        yield [
            Example(
                key=f"{picture}-re{number}",
                pictures=(picture,),
                texts=(one["text"],),
                kind=_kind(one["text"]),
                box=(one["x0"] / size_px, one["y0"] / size_px, one["x1"] / size_px, one["y1"] / size_px),
            )
            for number, one in enumerate(asked)
        ]


def _kind(phrase: str) -> str:
    """By what a phrase tells its object from the others."""
    if any(f" {name} the " in phrase for name in RELATIONS):
        return "relation"
    return "thing" if len(phrase.split()) == len(("the", "star")) else "look"


def _column(rows: Rows, name: str) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    for row in range(len(rows)):
        key, values = rows.values(row, ["key", name])
        yield key, values
