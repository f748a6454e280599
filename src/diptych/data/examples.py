"""Example tables: a row a question, statement or phrase about pictures, whose regions a store has under their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from diptych.data.layout import STORE
from diptych.data.swapped import SWAPPED, SwappedWords
from diptych.data.table import PICTURE_KEY, Rows, Table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.progress import SILENT, Progress

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


def examples_of_scenes(scenes: Table, out: Path, task: Task, progress: Progress = SILENT) -> None:
    """Writes what can be asked of a table of scenes as a table of examples; swapped texts of any table.

    Args:
        scenes: as `diptych data scenes` draws it; regions made of it serve its examples too.
        out: the folder of the new table.
        task: questions ("vqa"), statements ("ve"), statements about two scenes ("nlvr2"), questions with answers and
            rationales to choose from ("vcr"), phrases that mean one object ("re"), or texts with what they become when
            two of their words are swapped ("swapped").
        progress: where the work is drawn.
    Raises:
        DataError: the table is none of scenes; or, for swapped texts, it has none, or no pictures of its own.
        RunExistsError: `out` is there already.
    """
    column, examples_of = _asked_of_scenes(scenes, task)
    if column == "texts" and (scenes.kind == STORE or PICTURE_KEY in scenes.columns):
        raise DataError(f"{scenes.path} is made of another table; expected that one, of pictures and texts")
    if column != "texts" and (column not in scenes.columns or not is_of_scenes(scenes.meta)):
        found = f"no column {column!r}" if column not in scenes.columns else "no picture world behind it"
        raise DataError(f"{scenes.path} has {found}; expected a table of scenes, as `diptych data scenes` draws it")
    with (
        TableWriter(out, columns=COLUMNS[task], source=f"{task} of {scenes.fingerprint}") as writer,
        progress.bar("writing", total=sum(scenes.splits.values()), unit="scenes") as bar,
    ):
        asked = False
        for split in scenes.splits:
            for examples in examples_of(scenes.split(split), scenes.meta):
                for example in examples:
                    write_example(writer, task, split, example)
                    asked = True
                bar.advance(1)
        if not asked:
            raise DataError(
                f"{scenes.path} has nothing to ask for {task!r}; expected, for swapped words, texts of which two words "
                "may change places so that each stands beside words that it is seen beside in some text"
            )


def is_of_scenes(meta: Mapping[str, Any]) -> bool:
    """Whether a table that says this of itself holds scenes of the picture world."""
    return "backgrounds" in meta


def _asked_of_scenes(
    scenes: Table, task: Task
) -> tuple[str, Callable[[Rows, Mapping[str, Any]], Iterator[list[Example]]]]:
    """The column that a task needs, and what makes the examples of each row of a split."""
    from diptych.data.scene_examples import asked, pairs, reasons, swaps

    match task:
        case "vqa":
            return "questions", asked.questions
        case "ve":
            return "statements", asked.statements
        case "nlvr2":
            return "objects", pairs.statements
        case "vcr":
            return "objects", reasons.questions
        case "re":
            return "referring", asked.phrases
        case "swapped":
            splits = () if scenes.kind == STORE else scenes.splits
            words = SwappedWords(text for split in splits for text in scenes.split(split).texts())
            return "texts", partial(swaps.texts, words)


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
