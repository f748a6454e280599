"""Example tables: a row a question, statement or phrase about pictures, whose regions a store has under their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from diptych.data.swapped import SWAPPED
from diptych.data.table import PICTURE_KEY, Rows
from diptych.data.table_writer import TableWriter

ANSWERS = "answers"
KIND = "kind"
OPTIONS = "options"
RIGHT = "right"
BOX = "box"
MOST_ANSWERS = 3129
"""That a model chooses among: as many as UNITER's, for VQA v2."""
ENTAILMENT = ("contradiction", "entailment", "neutral")
"""SNLI-VE's words for a statement that a picture shows to be false or true, or that it leaves open."""
TRUTHS = ("False", "True")
"""NLVR2's words for a statement about two pictures."""

Task = Literal["vqa", "ve", "nlvr2", "vcr", "re", "swapped"]
_ANSWERED: Mapping[str, pa.DataType] = {
    PICTURE_KEY: pa.string(),
    ANSWERS: pa.list_(pa.struct([("text", pa.string()), ("score", pa.float32())])),
    KIND: pa.string(),
}
COLUMNS: Mapping[Task, Mapping[str, pa.DataType]] = {
    "vqa": _ANSWERED,
    "ve": _ANSWERED,
    "nlvr2": {**_ANSWERED, PICTURE_KEY: pa.list_(pa.string())},
    "vcr": {
        PICTURE_KEY: pa.list_(pa.string()),
        OPTIONS: pa.list_(pa.string()),
        RIGHT: pa.int32(),
        KIND: pa.string(),
    },
    "re": {PICTURE_KEY: pa.string(), BOX: pa.list_(pa.float32()), KIND: pa.string()},
    "swapped": {PICTURE_KEY: pa.string(), SWAPPED: pa.list_(pa.list_(pa.string())), KIND: pa.string()},
}
"""Own columns of the tables of each task; `Example` says what they hold."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question, statement or phrase."""

    key: str
    pictures: tuple[str, ...]
    """The keys of what it is about: of NLVR2 the left and the right picture; of VCR one, or the keys under which the
    given boxes and the detected ones of the same picture lie; else one."""
    texts: tuple[str, ...]
    """One; of VCR what stands before an option: the question, and for a rationale the answer too."""
    kind: str
    """What is asked for, in a word."""
    group: str | None = None
    """None: that of the rows about its first picture."""
    answers: Mapping[str, float] | None = None
    """What each is worth, from 0 to 1; None where nobody tells."""
    options: tuple[str, ...] = ()
    """Of VCR: one of them is right."""
    right: int | None = None
    """The place of that one; None where nobody tells."""
    box: tuple[float, float, float, float] | None = None
    """Of a phrase: x0, y0, x1, y1 of what it means, as shares of the picture; None where nobody tells."""
    swapped: tuple[str, ...] = ()
    """Texts of the same words, two of them swapped, that as a rule are not true."""


def write_example(writer: TableWriter, task: Task, split: str, example: Example) -> None:
    """Adds a row to a table that was begun with the COLUMNS of a task; examples of one picture are of one group."""
    told, several = example.answers, pa.types.is_list(COLUMNS[task][PICTURE_KEY])
    values = {
        PICTURE_KEY: list(example.pictures) if several else example.pictures[0],
        ANSWERS: None if told is None else [{"text": text, "score": worth} for text, worth in told.items()],
        KIND: example.kind,
        OPTIONS: list(example.options),
        RIGHT: example.right,
        BOX: None if example.box is None else list(example.box),
        SWAPPED: [list(example.swapped)],
    }
    fields = {name: values[name] for name in COLUMNS[task]}
    group = example.pictures[0] if example.group is None else example.group
    writer.add(split, key=example.key, group=group, texts=list(example.texts), fields=fields)


def is_of_scenes(meta: Mapping[str, Any]) -> bool:
    """Whether a table that says this of itself holds scenes of the picture world."""
    return "backgrounds" in meta


def answer_names(rows: Rows, most: int = MOST_ANSWERS) -> tuple[str, ...]:
    """The answers of a split, those that are given most often first; () where rows have no such column."""
    if ANSWERS not in rows.columns:
        return ()
    given: Counter[str] = Counter()
    for row in range(len(rows)):
        given.update(one["text"] for one in rows.values(row, [ANSWERS])[0] or ())
    return tuple(sorted(given, key=lambda text: (-given[text], text))[:most])


def answer_scores(answers: Sequence[Mapping[str, Any]] | None, names: Sequence[str]) -> list[float] | None:
    """What each of the (A) names is worth as an answer; None where nobody tells the answers.

    An answer that is none of the names is worth nothing here.
    """
    if answers is None:
        return None
    worth = {one["text"]: one["score"] for one in answers}
    return [worth.get(name, 0.0) for name in names]
