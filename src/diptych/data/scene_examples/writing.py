"""Tables of examples, made of what can be asked of the built-in scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.examples import COLUMNS, Example, Task, is_of_scenes, write_example
from diptych.data.layout import STORE
from diptych.data.scene_examples import asked, pairs, reasons, swaps
from diptych.data.swapped import SwappedWords
from diptych.data.table import PICTURE_KEY, Rows, Table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.progress import SILENT, Progress


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


def _asked_of_scenes(
    scenes: Table, task: Task
) -> tuple[str, Callable[[Rows, Mapping[str, Any]], Iterator[list[Example]]]]:
    """The column that a task needs, and what makes the examples of each row of a split."""
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
