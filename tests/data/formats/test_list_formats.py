"""CSV, JSON lines and the imagefolder convention: lists of paths and texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.data.formats import csv, imagefolder, jsonl
from diptych.data.rejects import Reject
from diptych.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\n1.png,A dog .\n1.png,"Two dogs, one cat"\n',
        '\ufeffimage,caption\r\n1.png,A dog .\r\n1.png,"Two dogs, one cat"\r\n',
        "filepath\ttitle\n1.png\tA dog .\n1.png\tTwo dogs, one cat\n",
        "image_name| comment_number| comment\n1.png| 0| A dog .\n1.png| 1| Two dogs, one cat\n",
        "1.png#0\tA dog .\n1.png#1\tTwo dogs, one cat\n",
    ],
    ids=["flickr8k", "BOM and CRLF", "open_clip", "flickr30k", "token file"],
)
def test_csv_of_every_dialect(tmp_path: Path, put_picture, good, text: str) -> None:
    put_picture(tmp_path / "images" / "1.png")
    (tmp_path / "captions.txt").write_text(text, encoding="utf-8", newline="")
    assert csv.sniff(tmp_path)
    rows = good(csv.read(tmp_path))
    assert [row.texts for row in rows] == [("A dog .",), ("Two dogs, one cat",)]
    assert {row.key for row in rows} == {"1.png"}
    assert rows[0].image == tmp_path / "images" / "1.png"


def test_csv_cells_with_lists_own_columns_and_splits(tmp_path: Path, put_picture, good) -> None:
    put_picture(tmp_path / "1.png")
    text = 'raw,split,filename,img_id,place\n"[""a"", ""b""]",val,1.png,17,Oslo\n'
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    (row,) = good(csv.read(tmp_path / "list.csv"))
    assert (row.texts, row.split, row.key, row.fields) == (("a", "b"), "validation", "17", {"place": "Oslo"})


def test_several_lists_are_splits(tmp_path: Path, put_picture, good) -> None:
    put_picture(tmp_path / "1.png")
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("path,text\n1.png,a\n", encoding="utf-8")
    assert [row.split for row in good(csv.read(tmp_path))] == ["validation", "train"]


def test_csv_that_lists_no_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,price\ncup,3\n", encoding="utf-8")
    assert not csv.sniff(tmp_path)
    with pytest.raises(DataError, match="image,caption"):
        list(csv.read(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("image,caption\n1.png,a\n", encoding="utf-16")
    with pytest.raises(DataError, match="save it as UTF-8"):
        list(csv.read(tmp_path / "b.csv"))


def test_a_bad_row_of_csv_costs_itself(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "1.png")
    huge = "x" * 200_000
    lines = [b"image,caption", b"1.png,caf\xe9", b"1.png,a,b", b"1.png," + huge.encode(), b",none", b"", b"1.png,good"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    *bad, last = csv.read(tmp_path / "a.csv")
    assert [row.reason.split(":")[0] for row in bad if isinstance(row, Reject)] == [
        "not UTF-8",
        "3 cells where the first line has 2; is a text with the delimiter in it unquoted?",
        "not a row of CSV",
        "names no picture; its columns are",
    ]
    assert not isinstance(last, Reject)
    assert last.texts == ("good",)


def test_json_lines(tmp_path: Path, put_picture, put_lines, good) -> None:
    put_picture(tmp_path / "a" / "1.png")
    row = {"file_name": "a/1.png", "captions": ["A dog .", "Un café"], "label": 3, "class_name": "dog", "objects": None}
    put_lines(tmp_path / "test.jsonl", [row])
    assert jsonl.sniff(tmp_path)
    (record,) = good(jsonl.read(tmp_path))
    assert (record.key, record.split, record.label, record.label_name) == ("a/1.png", "test", 3, "dog")
    assert record.texts == ("A dog .", "Un café")


def test_one_json_list(tmp_path: Path, put_picture, good) -> None:
    put_picture(tmp_path / "1.png")
    (tmp_path / "pairs.json").write_text(json.dumps([{"image": "1.png", "caption": "a"}]), encoding="utf-8")
    assert jsonl.sniff(tmp_path / "pairs.json")
    assert [row.texts for row in good(jsonl.read(tmp_path / "pairs.json"))] == [("a",)]


def test_a_broken_line_costs_itself(tmp_path: Path, put_picture, monkeypatch: pytest.MonkeyPatch) -> None:
    put_picture(tmp_path / "1.png")
    monkeypatch.setattr(jsonl, "MAX_TEXT_BYTES", 300)
    lines = [
        b'{"image": "1.png", "text": ',
        b'{"image": "1.png", "text": "caf\xe9"}',
        b'["1.png"]',
        b'{"text": "no picture"}',
        b'{"image": "1.png", "text": "\\ud83d"}',
        b'{"image": "1.png", "text": "' + b"x" * 1000 + b'"}',
        b"[" * 299,
        b"",
        b'{"image": "1.png", "text": "good"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    *bad, last = jsonl.read(tmp_path / "a.jsonl")
    assert [row.source for row in bad] == [f"a.jsonl line {number}" for number in range(1, 8)]
    assert all(isinstance(row, Reject) for row in bad)
    assert not isinstance(last, Reject)
    assert (last.texts, last.source) == (("good",), "a.jsonl line 9")


def test_a_last_line_may_lack_its_end_and_be_as_long_as_allowed(tmp_path: Path, put_picture, good, monkeypatch) -> None:
    put_picture(tmp_path / "1.png")
    line = b'{"image": "1.png", "text": "good"}'
    monkeypatch.setattr(jsonl, "MAX_TEXT_BYTES", len(line))
    (tmp_path / "a.jsonl").write_bytes(line)
    assert len(good(jsonl.read(tmp_path / "a.jsonl"))) == 1


def test_imagefolder_with_a_metadata_file_in_each_split(tmp_path: Path, put_picture, put_lines, good) -> None:
    for split, name in (("train", "1.png"), ("val", "1.png")):
        put_picture(tmp_path / split / name, seed=len(split))
        put_lines(tmp_path / split / "metadata.jsonl", [{"file_name": name, "text": f"of {split}"}])
    assert imagefolder.sniff(tmp_path)
    rows = good(imagefolder.read(tmp_path))
    assert [(row.key, row.split, row.texts) for row in rows] == [
        ("train/1.png", "train", ("of train",)),
        ("val/1.png", "validation", ("of val",)),
    ]


def test_imagefolder_with_csv_and_a_picture_that_no_line_names(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "pictures" / "1.png")
    put_picture(tmp_path / "pictures" / "2.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\npictures/1.png,one\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("not a picture", encoding="utf-8")
    record, reject = imagefolder.read(tmp_path)
    assert record.key == "pictures/1.png"
    assert reject == Reject("pictures/2.png", "pictures/2.png", "no line of a metadata file names this picture")


def test_imagefolder_never_leaves_its_folder(tmp_path: Path, put_picture, put_lines) -> None:
    put_picture(tmp_path / "secret.png")
    put_lines(tmp_path / "root" / "metadata.jsonl", [{"file_name": "../secret.png", "text": "a"}])
    (reject,) = imagefolder.read(tmp_path / "root")
    assert isinstance(reject, Reject)
    assert "leaves the folder" in reject.reason
