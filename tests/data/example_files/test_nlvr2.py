"""NLVR2's files: small ones of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.example_files import examples_of_files
from diptych.data.table import open_table
from diptych.errors import DataError


def line(identifier: str, label: object = "True", **more: object) -> dict[str, object]:
    urls = {"left_url": "https://a.org/1.jpg", "right_url": "https://a.org/2.jpg"}
    return {"identifier": identifier, "sentence": f"says {identifier}", "label": label, **urls, **more}


def test_sentences_are_about_the_two_pictures_of_their_identifier(tmp_path, put_lines, read_back) -> None:
    put_lines(tmp_path / "data" / "train.json", [line("train-10171-0-0", directory=74), line("train-5-3-1", "False")])
    put_lines(tmp_path / "data" / "dev.json", [line("dev-850-0-0", label=False)])
    put_lines(tmp_path / "data" / "test1.json", [line("test1-0-1-0")])
    hidden = {"identifier": "test2-9-0-0", "sentence": "hm"}
    put_lines(tmp_path / "data" / "test2.json", [hidden])

    assert examples_of_files(tmp_path / "data", tmp_path / "out", "nlvr2") == 0
    assert open_table(tmp_path / "out").splits == {"train": 2, "validation": 1, "test": 1, "test2": 1}
    one, two = read_back(tmp_path / "out", "nlvr2", "train")
    assert (one.key, one.texts, one.kind) == ("train-10171-0-0", ("says train-10171-0-0",), "statement")
    assert one.pictures == ("train-10171-0-img0.png", "train-10171-0-img1.png")
    assert [one.answers, two.answers] == [{"True": 1.0}, {"False": 1.0}]
    assert read_back(tmp_path / "out", "nlvr2", "validation")[0].answers == {"False": 1.0}
    assert read_back(tmp_path / "out", "nlvr2", "test2")[0].answers is None


def test_pictures_go_by_the_names_of_their_regions(tmp_path: Path, put_lines, read_back) -> None:
    put_lines(tmp_path / "dev.json", [line("dev-1003-3-0")])
    put_lines(tmp_path / "train.json", [line("train-7-0-0", directory=12)])
    examples_of_files(tmp_path / "dev.json", tmp_path / "npz", "nlvr2", picture_keys=["nlvr2_{id}-img{side}.npz"])
    (one,) = read_back(tmp_path / "npz", "nlvr2", "validation")
    assert one.pictures == ("nlvr2_dev-1003-3-img0.npz", "nlvr2_dev-1003-3-img1.npz")
    folders = ["{split}/{directory}/{id}-img{side}.png"]
    examples_of_files(tmp_path / "train.json", tmp_path / "images", "nlvr2", picture_keys=folders)
    assert read_back(tmp_path / "images", "nlvr2", "train")[0].pictures[1] == "train/12/train-7-0-img1.png"


def test_a_bad_line_costs_itself(tmp_path: Path, put_lines, rejects) -> None:
    lone = line("dev-6-0-0") | {"sentence": "half \ud83d of it"}
    lines = [line("dev-1-0-0"), line("dev-2-0-0", "Maybe"), line("dev-3-0"), "{cut", "[1]", line("dev-1-0-0"), lone]
    put_lines(tmp_path / "dev.json", lines)
    assert examples_of_files(tmp_path / "dev.json", tmp_path / "out", "nlvr2") == 6
    assert open_table(tmp_path / "out").splits == {"validation": 1}
    found = rejects(tmp_path / "out")
    assert [key for key, _ in found] == ["dev-2-0-0", "dev-3-0", "", "", "dev-1-0-0", "dev-6-0-0"]
    assert found[0][1] == "label is 'Maybe'; expected False or True"
    assert "expected four parts" in found[1][1] and "came before" in found[4][1] and "no Unicode" in found[5][1]


def test_files_of_another_data_set_are_told(tmp_path: Path, put_lines) -> None:
    put_lines(tmp_path / "train.json", [{"pairID": "1", "sentence2": "a"}])
    with pytest.raises(
        DataError, match=r"no row of .* can be read as NLVR2's; the first, .*train.json, line 1: it has no"
    ):
        examples_of_files(tmp_path / "train.json", tmp_path / "out", "nlvr2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of sentences; expected NLVR2's"):
        examples_of_files(tmp_path / "empty", tmp_path / "out", "nlvr2")
