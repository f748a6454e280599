"""What the tests of public files of examples share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from diptych.data.examples import COLUMNS, Example, Task
from diptych.data.table import open_table


@pytest.fixture
def put_lines() -> Callable[[Path, Iterable[object]], None]:
    """Writes a file of JSON lines; a text is a line as it is."""

    def put(file: Path, rows: Iterable[object]) -> None:
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))

    return put


@pytest.fixture
def read_back() -> Callable[[Path, Task, str], list[Example]]:
    """The examples of a split of a table."""

    def read(folder: Path, task: Task, split: str) -> list[Example]:
        rows = open_table(folder).split(split)
        return [example(task, rows.sample(row, tuple(COLUMNS[task]))) for row in range(len(rows))]

    def example(task: Task, sample: Any) -> Example:
        found = dict(sample.fields)
        pictures = found.pop("picture_key")
        told = found.pop("answers", None)
        box = found.pop("box", None)
        return Example(
            key=sample.key,
            pictures=tuple([pictures] if isinstance(pictures, str) else pictures),
            texts=sample.texts,
            kind=found["kind"],
            answers=None if told is None else {one["text"]: one["score"] for one in told},
            options=tuple(found.get("options", ())),
            right=found.get("right"),
            box=None if box is None else tuple(box),
        )

    return read


@pytest.fixture
def rejects() -> Callable[[Path], list[tuple[str, str]]]:
    """Key and reason of each row that was left out."""

    def read(folder: Path) -> list[tuple[str, str]]:
        lines = (folder / "rejects.jsonl").read_text().splitlines()
        return [(one["key"], one["reason"]) for one in map(json.loads, lines)]

    return read
