"""NLVR2's files: lines of JSON with a sentence, and an identifier that names its two pictures. arXiv:1811.00491."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.example_files.form import Form, Found, files_of, lines_of, split_of, word
from diptych.data.examples import TRUTHS, Example
from diptych.errors import DataError

EXPECTED = "sentences; expected NLVR2's, e.g. train.json"
SECOND_TEST = "test2"


def read(source: Path, templates: Sequence[str]) -> Iterator[Found]:
    """The sentences of every file; the second test file, where somebody has it, is a split of its own."""
    sentence = partial(_sentence, template=templates[0])
    for file in files_of(source, "*.json", EXPECTED):
        split = SECOND_TEST if SECOND_TEST in file.stem else split_of(file)
        yield from lines_of(file, split, "identifier", sentence)


def _sentence(row: Mapping[str, Any], template: str) -> Iterator[Example]:
    key = word(row, "identifier")
    parts = key.split("-")
    if len(parts) != 4:
        raise DataError(f"identifier is {key!r}; expected four parts, e.g. train-10171-0-0")
    known = {"id": "-".join(parts[:3]), "split": parts[0], "directory": str(row.get("directory", ""))}
    label = str(row["label"]).capitalize() if "label" in row else None
    if label not in (None, *TRUTHS):
        raise DataError(f"label is {row['label']!r}; expected {' or '.join(TRUTHS)}")
    yield Example(
        key=key,
        pictures=tuple(template.format(**known, side=side) for side in (0, 1)),
        texts=(word(row, "sentence"),),
        answers=None if label is None else {label: 1.0},
        kind="statement",
    )


FORM = Form(
    name="NLVR2",
    picture_key="{id}-img{side}.png",
    fields={"id": "", "side": 0, "split": "", "directory": ""},
    read=read,
)
