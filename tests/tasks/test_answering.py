"""Answers and their worth, of a model that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych.data.examples import COLUMNS
from diptych.data.sample import Sample
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.tasks.answering import answering, answering_scores


class Says:
    """Always its word for the row's text."""

    name = "written down"
    answers = ("red", "blue", "two")
    reads_options = False

    def __init__(self, **words: str) -> None:
        self.words = words

    def answer(self, samples: Sequence[Sample]) -> Tensor:
        chosen = [self.answers.index(self.words[sample.texts[0]]) for sample in samples]
        return torch.nn.functional.one_hot(torch.tensor(chosen), len(self.answers)).float()


class NoRegions:
    """A store that has nothing for anybody."""

    path, columns = Path("nowhere"), ("regions", "tags")

    def stored(self, key: str, column: str) -> None:
        return None


ROWS = (
    ("colour", "hat", {"red": 1.0}),
    ("colour", "car", {"red": 0.6, "blue": 0.3}),
    ("colour", "cup", {"blue": 1.0}),
    ("count", "all", {"two": 1.0}),
    ("count", "sky", {"none": 1.0}),
)


def rows(folder: Path, known: bool = True, columns: tuple[str, ...] = tuple(COLUMNS["vqa"])) -> Rows:
    with TableWriter(folder / "table", columns={name: COLUMNS["vqa"][name] for name in columns}) as writer:
        for kind, text, given in ROWS:
            answers = [{"text": word, "score": worth} for word, worth in given.items()] if known else None
            fields = {"picture_key": text, "answers": answers, "kind": kind}
            writer.add("test", key=text, texts=[text], fields={name: fields[name] for name in columns})
    return open_table(folder / "table").joined(NoRegions()).split("test")


def test_answers_are_worth_what_people_said(tmp_path: Path) -> None:
    found = answering(Says(hat="red", car="blue", cup="blue", all="two", sky="red"), rows(tmp_path))
    assert [one.answer for one in found] == ["red", "blue", "blue", "two", "red"]
    assert [one.worth for one in found] == pytest.approx([1.0, 0.3, 1.0, 1.0, 0.0])
    assert [one.right for one in found] == ["red", "red", "blue", "two", ""]
    scores = {score.label: score for score in answering_scores(found)}
    assert [score.count for score in scores.values()] == [5, 3, 2]
    assert scores["all kinds"].value == pytest.approx(3.3 / 5)
    assert scores["colour"].value == pytest.approx(2.3 / 3)
    # Always "red" gets 1.6 of the three colours, "blue" 1.3; always "two" gets one of the two counts.
    assert scores["colour"].chance == pytest.approx(1.6 / 3)
    assert scores["count"].chance == pytest.approx(0.5)


def test_where_nobody_tells_there_are_answers_and_no_score(tmp_path: Path) -> None:
    found = answering(Says(hat="red", car="red", cup="two", all="two", sky="red"), rows(tmp_path, known=False), limit=2)
    assert [one.worth for one in found] == [None, None] and all(one.answer for one in found)
    with pytest.raises(DataError, match="no row tells its answers"):
        answering_scores(found)


def test_pictures_and_texts_are_no_examples(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "plain") as writer:
        writer.add("test", key="a", texts=["a hat"])
    with pytest.raises(DataError, match="no column 'answers'; expected a table of examples"):
        answering(Says(), open_table(tmp_path / "plain").split("test"))


def test_answers_of_another_task_are_refused(tmp_path: Path) -> None:
    model = Says(hat="red", car="red", cup="red", all="red", sky="red")
    model.answers = ("entailment", "red", "contradiction")
    strange = TableWriter(tmp_path / "table", columns=COLUMNS["vqa"])
    with strange as writer:
        answers = [{"text": "a lot", "score": 1.0}]
        writer.add("test", key="hat", texts=["hat"], fields={"picture_key": "hat", "answers": answers})
    asked = open_table(tmp_path / "table").joined(NoRegions()).split("test")
    with pytest.raises(DataError, match="is among the 3 of written down, such as 'entailment'; expected examples of"):
        answering(model, asked)


def test_kinds_and_answers_need_not_be_there(tmp_path: Path) -> None:
    model = Says(hat="red", car="blue", cup="blue", all="two", sky="red")
    found = answering(model, rows(tmp_path / "a", columns=("picture_key", "answers")))
    assert [score.label for score in answering_scores(found)] == ["all kinds"]
    asked = rows(tmp_path / "b", columns=("picture_key",))
    assert [one.answer for one in answering(model, asked, scored=False)] == ["red", "blue", "blue", "two", "red"]


def test_a_row_names_its_picture(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "table", columns=COLUMNS["vqa"]) as writer:
        writer.add("test", key="q1", texts=["what?"], fields={"answers": []})
    asked = open_table(tmp_path / "table").joined(NoRegions()).split("test")
    with pytest.raises(DataError, match="q1 names no picture in the column 'picture_key'"):
        answering(Says(), asked)
