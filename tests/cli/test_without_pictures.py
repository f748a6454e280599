"""Tables whose pictures lie elsewhere, under every verb that wants pictures: refused at once, and told what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.examples import COLUMNS, Example, write_example
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.tasks.evaluation import possible

Command = Callable[..., tuple[int, str, str]]

TOLD = {
    "texts": "texts has no pictures: none of the 2 rows of train holds one; expected the table of the pictures",
    "questions": "questions is a table of examples: its column 'picture_key' says which pictures they are about",
    "regions": "regions is a store of what was made of pictures; expected the table of the pictures themselves",
}
VERBS = {
    "extract": ["regions", "extract", "DATA", "--tower", "nowhere", "--out", "new"],
    "extract, of a split": ["regions", "extract", "DATA", "--tower", "nowhere", "--out", "new", "--split", "train"],
    "extract, by nothing": ["regions", "extract", "DATA", "--out", "new"],
    "show": ["regions", "show", "nowhere", "--data", "DATA", "--html", "x.html"],
    "train a detector": ["regions", "train", "DATA", "--out", "new"],
    "train": ["train", "clip", "tiny", "--data", "DATA", "--out", "new", "--set", "training.eval_split=train"],
    "train by its name": ["train", "detector", "tiny", "--data", "DATA", "--out", "new", "--set",
                          "training.eval_split=train"],
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tables of two rows each: texts, questions, and a store."""
    with (
        TableWriter(tmp_path / "texts") as texts,
        TableWriter(tmp_path / "questions", columns=COLUMNS["vqa"]) as questions,
    ):
        for key in "ab":
            texts.add("train", key=key, image=None, texts=["a dog"])
            about = Example(key=f"{key}-0", pictures=(key,), texts=("what?",), answers={"dog": 1.0}, kind="what")
            write_example(questions, "vqa", "train", about)
    with TableWriter(tmp_path / "regions", kind="store") as store:
        store.add("train", key="a")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("data", TOLD)
@pytest.mark.parametrize("verb", VERBS)
def test_it_is_refused_before_any_work(verb: str, data: str, place: Path, spoken: Command) -> None:
    code, told, said = spoken(*[data if word == "DATA" else word for word in VERBS[verb]])
    assert code == 1 and told == "", said
    assert said.startswith(f"Error: {TOLD[data]}") and said.count("\n") == 1
    assert not (place / "new").exists() and not (place / "new.partial").exists()


def test_a_model_that_reads_regions_wants_those_and_no_tokenizer_is_trained_before(
    place: Path, spoken: Command
) -> None:
    code, _, said = spoken("train", "uniter", "tiny", "--data", "texts", "--out", "new", "--set",
                        "training.eval_split=train")  # fmt: skip
    assert code == 1 and "training the tokenizer" not in said
    assert "texts has no regions beside it; make them of the table of its pictures with" in said


def test_no_task_that_wants_pictures_is_possible(place: Path) -> None:
    assert possible(open_table(place / "texts"), "train") == ()
    assert possible(open_table(place / "questions"), "train") == ("answers",)
