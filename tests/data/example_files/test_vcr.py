"""VCR's files: small ones of the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diptych.data.example_files import examples_of_files
from diptych.data.table import open_table
from diptych.errors import UsageError

PICTURE = "lsmdc_3038_ITS/3038_ITS_00.08.14.616-00.08.17.313@0.jpg"


def question(annot_id: str, *, told: bool = True, **changed: object) -> dict[str, Any]:
    labels = {"answer_label": 2, "rationale_label": 1} if told else {}
    return {
        "objects": ["person", "dog", "person"],
        "img_fn": PICTURE,
        "question": ["Why", "is", [0], "near", [1, 2], "?"],
        "answer_choices": [[[number % 3], "is", word] for number, word in enumerate(("up", "old", "ill", "off"))],
        "rationale_choices": [["It", "says", word] for word in ("a", "b", "c", "d")],
        "annot_id": annot_id,
        "img_id": annot_id,
        **labels,
        **changed,
    }


def test_a_question_has_a_row_for_its_answer_and_one_for_its_reason(tmp_path: Path, put_lines, read_back) -> None:
    put_lines(tmp_path / "val.jsonl", [question("val-0")])
    assert examples_of_files(tmp_path / "val.jsonl", tmp_path / "out", "vcr") == 0
    answer, reason = read_back(tmp_path / "out", "vcr", "validation")
    asked = "Why is person1 near dog2 and person3 ?"
    assert (answer.key, answer.kind, answer.pictures, answer.texts) == ("val-0:qa", "Q->A", (PICTURE,), (asked,))
    assert answer.options == ("person1 is up", "dog2 is old", "person3 is ill", "person1 is off")
    assert (answer.right, reason.right) == (2, 1)
    assert (reason.key, reason.kind, reason.pictures) == ("val-0:qar2", "QA->R", (PICTURE,))
    assert reason.texts == (asked, "person3 is ill")
    assert reason.options == ("It says a", "It says b", "It says c", "It says d")


def test_where_nobody_tells_reasons_are_asked_for_every_answer(tmp_path: Path, put_lines, read_back) -> None:
    put_lines(tmp_path / "vcr" / "test.jsonl", [question("test-4", told=False)])
    put_lines(tmp_path / "vcr" / "train.jsonl", [question("train-0"), question("train-1", answer_label=0)])
    assert examples_of_files(tmp_path / "vcr", tmp_path / "out", "vcr") == 0
    assert open_table(tmp_path / "out").splits == {"train": 4, "test": 5}
    found = read_back(tmp_path / "out", "vcr", "test")
    assert [one.key for one in found] == ["test-4:qa", *(f"test-4:qar{place}" for place in range(4))]
    assert [one.texts[1:] for one in found] == [(), *((option,) for option in found[0].options)]
    assert {one.right for one in found} == {None}
    assert len({one.options for one in found[1:]}) == 1


def test_given_and_detected_boxes_have_keys_of_their_own(tmp_path: Path, put_lines, read_back) -> None:
    put_lines(tmp_path / "val.jsonl", [question("val-0")])
    names = ["vcr_gt_{split}_{stem}.npz", "vcr_{split}_{stem}.npz"]
    examples_of_files(tmp_path / "val.jsonl", tmp_path / "out", "vcr", picture_keys=names)
    stem = "3038_ITS_00.08.14.616-00.08.17.313@0"
    assert {one.pictures for one in read_back(tmp_path / "out", "vcr", "validation")} == {
        (f"vcr_gt_val_{stem}.npz", f"vcr_val_{stem}.npz")
    }
    with pytest.raises(UsageError, match="came 3 times; for VCR it is given at most 2"):
        examples_of_files(tmp_path / "val.jsonl", tmp_path / "other", "vcr", picture_keys=["{name}"] * 3)
    with pytest.raises(UsageError, match="for VQA v2 it is given at most 1"):
        examples_of_files(tmp_path, tmp_path / "other", "vqa", picture_keys=["{id}"] * 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"question": ["Is", [3], "?"]}, "question names the objects [3]; there are 3, counted from 0"),
        ({"question": ["Is", [0, 1.0], "?"]}, "question names the objects [0, 1.0]"),
        ({"question": "Is it?"}, 'question is "Is it?"; expected words'),
        ({"answer_choices": [["a"]] * 3}, "answer_choices has 3 texts; expected 4"),
        ({"rationale_choices": [["a"], ["b"], [], ["d"]]}, "rationale_choices is []; expected words"),
        ({"answer_label": 4}, "answer_label is 4; expected 0 to 3"),
        ({"rationale_label": [1]}, "rationale_label is [1]; expected 0 to 3"),
        ({"img_fn": None}, "img_fn is null; expected a text"),
        ({"objects": "person"}, 'objects is "person"; expected a list'),
    ],
)
def test_a_bad_question_costs_all_its_rows_and_no_other(tmp_path, put_lines, rejects, changed, reason) -> None:
    put_lines(tmp_path / "train.jsonl", [question("train-0"), question("train-1", **changed)])
    assert examples_of_files(tmp_path / "train.jsonl", tmp_path / "out", "vcr") == 1
    ((key, why),) = rejects(tmp_path / "out")
    assert key == "train-1" and why.startswith(reason)
    assert open_table(tmp_path / "out").splits == {"train": 2}
