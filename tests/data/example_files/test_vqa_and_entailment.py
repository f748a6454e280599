"""VQA v2's and SNLI-VE's files as examples: small ones of the same form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.data.example_files import examples_of_files
from diptych.data.example_files.vqa import plain_answer, worth_of
from diptych.data.examples import ANSWERS, KIND
from diptych.data.table import open_table
from diptych.errors import DataError, UsageError

COLUMNS = ("picture_key", ANSWERS, KIND)


def put(folder: Path, name: str, content: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def questions(*rows: tuple[int, int, str], subtype: str = "val2014") -> dict[str, Any]:
    return {
        "info": {"version": "2.0"},
        "data_subtype": subtype,
        "questions": [{"question_id": key, "image_id": image, "question": text} for key, image, text in rows],
    }


def annotations(*rows: tuple[int, list[str]]) -> dict[str, Any]:
    told = [
        {"question_id": key, "answer_type": "other", "answers": [{"answer": one, "answer_id": 1} for one in given]}
        for key, given in rows
    ]
    return {"annotations": told}


def told(folder: Path, split: str) -> list[tuple[object, ...]]:
    rows = open_table(folder).split(split)
    found = [rows.sample(row, COLUMNS) for row in range(len(rows))]
    worth = [{one["text"]: pytest.approx(one["score"]) for one in sample.fields[ANSWERS] or ()} for sample in found]
    return [
        (sample.key, sample.texts[0], sample.fields["picture_key"], answers or None, sample.fields[KIND])
        for sample, answers in zip(found, worth, strict=True)
    ]


def test_questions_of_vqa(tmp_path: Path) -> None:
    asked = questions((42001, 42, "What is it?"), (42002, 42, "How many?"), (7000, 7, "Why?"))
    put(tmp_path / "vqa", "v2_OpenEnded_mscoco_val2014_questions.json", asked)
    answers = annotations((42001, ["A hat"] * 2 + ["hat."] + ["cap"] * 2), (42002, ["two"] * 10))
    put(tmp_path / "vqa", "v2_mscoco_val2014_annotations.json", answers)
    test = questions((9, 9, "Where?"), subtype="test2015")
    put(tmp_path / "vqa", "v2_OpenEnded_mscoco_test2015_questions.json", test)

    assert examples_of_files(tmp_path / "vqa", tmp_path / "out", "vqa") == 1
    picture = "COCO_val2014_000000000042.jpg"
    assert told(tmp_path / "out", "validation") == [
        ("42001", "What is it?", picture, {"hat": 1.0, "cap": 2 / 3}, "other"),
        ("42002", "How many?", picture, {"2": 1.0}, "other"),
    ]
    assert told(tmp_path / "out", "test") == [("9", "Where?", "COCO_test2015_000000000009.jpg", None, "")]
    (left_out,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(left_out)["key"] == "7000"


def test_a_bad_question_or_annotation_costs_itself(tmp_path: Path, rejects) -> None:
    asked = questions((1, 1, "Good?"), (2, 2, "No answers?"), (3, 3, "Not told?"))
    asked["questions"] += [{"question_id": 4, "image_id": "x", "question": "?"}, {"question_id": 1}, 5]
    answers = annotations((1, ["yes", ""]))
    answers["annotations"] += [{"question_id": 2, "answers": [{"says": "no"}]}, {"answers": []}, "?"]
    put(tmp_path / "vqa", "v2_OpenEnded_mscoco_train2014_questions.json", asked)
    put(tmp_path / "vqa", "v2_mscoco_train2014_annotations.json", answers)
    assert examples_of_files(tmp_path / "vqa", tmp_path / "out", "vqa") == 5
    assert [row[0] for row in told(tmp_path / "out", "train")] == ["1"]
    found = dict(rejects(tmp_path / "out"))
    assert list(found) == ["2", "3", "4", "1", ""]
    assert found["2"].startswith("its annotation is") and "no answers to it" in found["3"]
    assert found["4"] == 'image_id is "x"; expected a whole number' and "expected an object" in found[""]


def test_statements_of_snli_ve(tmp_path: Path) -> None:
    lines = [
        {"pairID": "1.jpg#0r1n", "sentence2": "a man", "Flickr30K_ID": "1", "gold_label": "neutral"},
        {"pairID": "2.jpg#0r1e", "sentence2": "a dog", "Flickr30K_ID": "2", "gold_label": "entailment"},
        {"pairID": "3.jpg#0r1e", "sentence2": "a cat", "Flickr30K_ID": "3", "gold_label": "-"},
        {"sentence2": "nothing"},
    ]
    file = tmp_path / "snli_ve_dev.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n{cut")
    assert examples_of_files(file, tmp_path / "out", "ve", picture_keys=["flickr30k_{id}.npz"]) == 3
    assert told(tmp_path / "out", "validation") == [
        ("1.jpg#0r1n", "a man", "flickr30k_1.npz", {"neutral": 1.0}, "statement"),
        ("2.jpg#0r1e", "a dog", "flickr30k_2.npz", {"entailment": 1.0}, "statement"),
    ]


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The  two Dogs.", "2 dogs"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("t-shirt!", "t-shirt"),
        ("black/white", "black white"),
        ("none", "0"),
        ("an", ""),
    ],
)
def test_answers_are_written_alike(answer: str, plain: str) -> None:
    assert plain_answer(answer) == plain


def test_three_people_make_an_answer_right() -> None:
    given = ["red"] * 4 + ["Red!"] + ["blue"] * 2 + ["a blue"] + ["the", "green"]
    assert worth_of(given) == pytest.approx({"red": 1.0, "blue": 1.0, "green": 1 / 3})


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of questions; expected VQA's"):
        examples_of_files(tmp_path / "empty", tmp_path / "out", "vqa")
    with pytest.raises(DataError, match="no file of statements; expected SNLI-VE's"):
        examples_of_files(tmp_path / "empty", tmp_path / "out2", "ve")
    with pytest.raises(UsageError, match=r"--picture-key '\{nr\}' cannot be filled in"):
        examples_of_files(tmp_path / "empty", tmp_path / "out3", "ve", picture_keys=["{nr}"])
    assert not list(tmp_path.glob("out*/table.json"))
