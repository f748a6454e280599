"""Public files of questions and statements as tables of examples: VQA v2's and SNLI-VE's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.examples import COLUMNS, ENTAILMENT, Example, Task, write_example
from diptych.data.formats.json_stream import top_level
from diptych.data.formats.record import split_of_file
from diptych.data.layout import REJECTS_FILE
from diptych.data.rejects import Reject, RejectLog
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, UsageError
from diptych.progress import SILENT, Progress

PICTURE_KEYS: Mapping[Task, str] = {"vqa": "COCO_{subtype}_{id:012d}.jpg", "ve": "{id}.jpg"}
"""What a picture is called whose number or name a file gives: COCO's files, Flickr30k's."""
FULL_MARKS = 3
"""So many of ten people make an answer right; fewer make it right in part. VQA, arXiv:1505.00468, section 3."""
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS)} | {"none": "0"}
_ARTICLES = ("a", "an", "the")


def examples_of_files(
    source: Path, out: Path, task: Task, *, picture_key: str | None = None, progress: Progress = SILENT
) -> int:
    """Writes VQA v2's or SNLI-VE's files as a table of examples.

    Splits are told by the files' names. Questions without annotations (VQA's test) have no answers. A bad line costs
    itself, and is listed in OUT/rejects.jsonl.

    Args:
        source: one file of questions ("vqa") or statements ("ve"), or a folder of them; annotations lie beside.
        out: the folder of the new table.
        task: which form the files have.
        picture_key: what pictures are called in the store of regions, with {id} and, of VQA, {subtype}; None: as in
            PICTURE_KEYS.
        progress: where the work is drawn.
    Returns:
        How many rows were left out, which OUT/rejects.jsonl lists.
    Raises:
        DataError: there are no such files, or one of them is damaged.
        UsageError: `picture_key` asks for something else.
        RunExistsError: `out` is there already.
    """
    template = picture_key or PICTURE_KEYS[task]
    try:
        template.format(id=0 if task == "vqa" else "", subtype="")
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"--picture-key {template!r} cannot be filled in ({error}); e.g. {PICTURE_KEYS[task]}"
        ) from error
    found = _questions(source, template) if task == "vqa" else _statements(source, template)
    with (
        TableWriter(out, columns=COLUMNS[task], source=str(source)) as writer,
        RejectLog(writer.folder / REJECTS_FILE) as rejects,
        progress.bar("reading", total=None, unit="rows") as bar,
    ):
        for split, one in found:
            if isinstance(one, Reject):
                rejects.add(one)
                continue
            write_example(writer, task, split, one)
            bar.advance(1)
        return len(rejects)


def _questions(source: Path, template: str) -> Iterator[tuple[str, Example | Reject]]:
    """VQA's: a file of questions for each split, and one of annotations where their answers are told."""
    told = {_split(file): file for file in _files(source.parent if source.is_file() else source, "*annotations*.json")}
    asked = [source] if source.is_file() else _files(source, "*questions*.json")
    if not asked:
        raise DataError(
            f"{source} has no file of questions; expected VQA's, e.g. v2_OpenEnded_mscoco_val2014_questions.json"
        )
    for file in asked:
        split = _split(file)
        answers = dict(_annotated(told[split])) if split in told else None
        subtype = next((value for name, value in top_level(file) if name == "data_subtype"), "")
        picture = partial(template.format, subtype=subtype)
        for name, one in top_level(file):
            if name == "questions":
                yield split, _question(file, one, answers, picture)


def _question(
    file: Path, one: Any, answers: Mapping[int, _Told] | None, picture: Callable[..., str]
) -> Example | Reject:
    try:
        key, text, image = int(one["question_id"]), str(one["question"]), int(one["image_id"])
    except (KeyError, TypeError, ValueError) as error:
        return Reject("", str(file), f"expected question_id, question and image_id, found {_short(one)} ({error!r})")
    if answers is not None and key not in answers:
        return Reject(str(key), str(file), "the file of annotations has no answers to it")
    told = _Told(None, "") if answers is None else answers[key]
    return Example(key=str(key), pictures=(picture(id=image),), texts=(text,), answers=told.worth, kind=told.kind)


@dataclass(frozen=True)
class _Told:
    worth: Mapping[str, float] | None
    kind: str


def _annotated(file: Path) -> Iterator[tuple[int, _Told]]:
    for name, one in top_level(file):
        if name != "annotations":
            continue
        try:
            given = [str(answer["answer"]) for answer in one["answers"]]
            yield int(one["question_id"]), _Told(worth_of(given), str(one.get("answer_type", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: expected question_id and answers, found {_short(one)} ({error!r})") from error


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


def _statements(source: Path, template: str) -> Iterator[tuple[str, Example | Reject]]:
    """SNLI-VE's: lines of JSON with a statement, the name of its picture, and what people found."""
    files = [source] if source.is_file() else _files(source, "*.jsonl")
    if not files:
        raise DataError(f"{source} has no file of statements; expected SNLI-VE's, e.g. snli_ve_train.jsonl")
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _split(file), _statement(f"{file}, line {number}", line, template)


def _statement(where: str, line: str, template: str) -> Example | Reject:
    try:
        one = json.loads(line)
        key, text, picture, label = (str(one[name]) for name in ("pairID", "sentence2", "Flickr30K_ID", "gold_label"))
    except (KeyError, TypeError, ValueError) as error:
        return Reject("", where, f"expected pairID, sentence2, Flickr30K_ID and gold_label ({error!r})")
    if label not in ENTAILMENT:
        return Reject(key, where, f"gold_label is {label!r}; expected {', '.join(ENTAILMENT)}")
    name = template.format(id=picture, subtype="")
    return Example(key=key, pictures=(name,), texts=(text,), answers={label: 1.0}, kind="statement")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def _split(file: Path) -> str:
    """Told by the file's name; "train" where it tells none."""
    return split_of_file(file.stem) or "train"


def _short(found: Any) -> str:
    text = json.dumps(found, default=repr)
    return text if len(text) < 80 else f"{text[:77]}..."
