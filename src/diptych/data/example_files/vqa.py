"""VQA v2's files: one of questions for each split, and one of annotations where their answers are told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.example_files.form import (
    Form,
    Found,
    files_of,
    listed,
    made_of,
    number,
    short,
    split_of,
    unicode_of,
    word,
)
from diptych.data.examples import Example
from diptych.data.formats.json_stream import top_level
from diptych.errors import DataError

EXPECTED = "questions; expected VQA's, e.g. v2_OpenEnded_mscoco_val2014_questions.json"
FULL_MARKS = 3
"""So many of ten people make an answer right; fewer make it right in part. VQA, arXiv:1505.00468, section 3."""
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {spelt: str(value) for value, spelt in enumerate(_WORDS)} | {"none": "0"}
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class _Told:
    worth: Mapping[str, float] | None
    kind: str


_UNTOLD = _Told(None, "")


def read(source: Path, templates: Sequence[str]) -> Iterator[Found]:
    """The questions of every file; those of a split without annotations (VQA's test) have no answers."""
    folder = source.parent if source.is_file() else source
    told = {split_of(file): file for file in sorted(folder.glob("*annotations*.json"))}
    for file in files_of(source, "*questions*.json", EXPECTED):
        split = split_of(file)
        answers = dict(_annotated(told[split])) if split in told else None
        subtype = str(next((value for name, value in top_level(file) if name == "data_subtype"), ""))
        question = partial(_question, answers=answers, template=templates[0], subtype=subtype)
        for name, row in top_level(file):
            if name == "questions":
                yield from ((split, one) for one in made_of(row, str(file), "question_id", question))


def _question(
    row: Mapping[str, Any], answers: Mapping[int, _Told | DataError] | None, template: str, subtype: str
) -> Iterator[Example]:
    key, text, picture = number(row, "question_id"), word(row, "question"), number(row, "image_id")
    if answers is not None and key not in answers:
        raise DataError("the file of annotations has no answers to it")
    told = _UNTOLD if answers is None else answers[key]
    if isinstance(told, DataError):
        raise told
    name = template.format(subtype=subtype, id=picture)
    yield Example(key=str(key), pictures=(name,), texts=(text,), answers=told.worth, kind=told.kind)


def _annotated(file: Path) -> Iterator[tuple[int, _Told | DataError]]:
    """What is told of each question, or what is wrong with that; nothing where it is not said of which."""
    for name, row in top_level(file):
        if name == "annotations" and isinstance(row, Mapping):
            with suppress(DataError):
                yield number(row, "question_id"), _told(row)


def _told(row: Mapping[str, Any]) -> _Told | DataError:
    try:
        given = [unicode_of(str(answer["answer"]), "answer") for answer in listed(row, "answers")]
        return _Told(worth_of(given), unicode_of(str(row.get("answer_type", "")), "answer_type"))
    except (DataError, KeyError, TypeError) as error:
        return DataError(f"its annotation is {short(row)} ({error!r})")


def worth_of(given: Sequence[str]) -> dict[str, float]:
    """What each answer of several people is worth: right by as many as FULL_MARKS, in part by fewer.

    Answers are first written alike: small letters, digits for small numbers, no articles, no punctuation but within
    numbers and words. Differs from VQA's own list, which also sets apostrophes that were left out.
    """
    counts = Counter(plain_answer(answer) for answer in given)
    return {answer: min(1.0, num / FULL_MARKS) for answer, num in counts.items() if answer}


def plain_answer(answer: str) -> str:
    """An answer as answers are compared.

    >>> plain_answer("The  two Dogs."), plain_answer("1,000"), plain_answer("t-shirt!"), plain_answer("don't")
    ('2 dogs', '1000', 't-shirt', "don't")
    """
    words = re.sub(r"(?<=\d),(?=\d)", "", answer.lower())
    words = re.sub(r"(?<!\d)\.|\.(?!\d)|[;/\[\]\"{}()=+\\_<>@`,?!]", " ", words)
    return " ".join(_NUMBERS.get(word, word) for word in words.split() if word not in _ARTICLES)


FORM = Form(name="VQA v2", picture_key="COCO_{subtype}_{id:012d}.jpg", fields={"subtype": "", "id": 0}, read=read)
