"""VCR's files: lines of JSON with a question, four answers and four rationales, in which numbers name objects.

arXiv:1811.10830; its readme says what the fields hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.data.choosing import rows_of_question
from diptych.data.example_files.form import Form, Found, files_of, lines_of, listed, short, split_of, unicode_of, word
from diptych.data.examples import Example
from diptych.errors import DataError

EXPECTED = "questions; expected VCR's, e.g. train.jsonl"
NUM_OPTIONS = 4


def read(source: Path, templates: Sequence[str]) -> Iterator[Found]:
    """The rows of the questions of every file."""
    for file in files_of(source, "*.jsonl", EXPECTED):
        yield from lines_of(file, split_of(file), "annot_id", partial(_question, templates=templates))


def _question(row: Mapping[str, Any], templates: Sequence[str]) -> Iterator[Example]:
    key, picture = word(row, "annot_id"), word(row, "img_fn")
    known = {"name": picture, "stem": PurePosixPath(picture).stem, "split": key.partition("-")[0]}
    pictures = tuple(template.format(**known) for template in templates)
    objects = [unicode_of(str(name), "objects") for name in listed(row, "objects")]
    question = _text(row.get("question"), objects, "question")
    answers, rationales = (_options(row, name, objects) for name in ("answer_choices", "rationale_choices"))
    right, right_rationale = _place(row, "answer_label"), _place(row, "rationale_label")
    yield from rows_of_question(
        key, pictures, question, answers, rationales, right=right, right_rationale=right_rationale
    )


def _options(row: Mapping[str, Any], name: str, objects: Sequence[str]) -> list[str]:
    found = listed(row, name)
    if len(found) != NUM_OPTIONS:
        raise DataError(f"{name} has {len(found)} texts; expected {NUM_OPTIONS}")
    return [_text(tokens, objects, name) for tokens in found]


def _place(row: Mapping[str, Any], name: str) -> int | None:
    """Which option is right; None where nobody tells."""
    found = row.get(name)
    if found is not None and found not in range(NUM_OPTIONS):
        raise DataError(f"{name} is {short(found)}; expected 0 to {NUM_OPTIONS - 1}")
    return None if found is None else int(found)


def _text(tokens: Any, objects: Sequence[str], name: str) -> str:
    """Words with spaces between; a list of numbers becomes words: [0, 2] is "person1 and dog3"."""
    if not isinstance(tokens, list) or not tokens:
        raise DataError(f"{name} is {short(tokens)}; expected words, and lists of numbers for objects")
    return unicode_of(" ".join(_word(token, objects, name) for token in tokens), name)


def _word(token: Any, objects: Sequence[str], name: str) -> str:
    if isinstance(token, str):
        return token
    numbers = token if isinstance(token, list) else [token]
    if not numbers or not all(isinstance(one, int) and 0 <= one < len(objects) for one in numbers):
        raise DataError(f"{name} names the objects {short(token)}; there are {len(objects)}, counted from 0")
    return " and ".join(f"{objects[one]}{one + 1}" for one in numbers)


FORM = Form(name="VCR", picture_key="{name}", fields={"name": "", "stem": "", "split": ""}, most_keys=2, read=read)
