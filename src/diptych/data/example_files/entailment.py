"""SNLI-VE's files: lines of JSON with a statement, the name of its picture, and what people found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.example_files.form import Form, Found, files_of, lines_of, split_of, word
from diptych.data.examples import ENTAILMENT, Example
from diptych.errors import DataError

EXPECTED = "statements; expected SNLI-VE's, e.g. snli_ve_train.jsonl"


def read(source: Path, templates: Sequence[str]) -> Iterator[Found]:
    """The statements of every file."""
    for file in files_of(source, "*.jsonl", EXPECTED):
        yield from lines_of(file, split_of(file), "pairID", partial(_statement, template=templates[0]))


def _statement(row: Mapping[str, Any], template: str) -> Iterator[Example]:
    label = word(row, "gold_label")
    if label not in ENTAILMENT:
        raise DataError(f"gold_label is {label!r}; expected {', '.join(ENTAILMENT)}")
    yield Example(
        key=word(row, "pairID"),
        pictures=(template.format(id=word(row, "Flickr30K_ID")),),
        texts=(word(row, "sentence2"),),
        answers={label: 1.0},
        kind="statement",
    )


FORM = Form(name="SNLI-VE", picture_key="{id}.jpg", fields={"id": ""}, read=read)
