"""`diptych data`, as typed."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli import data
from diptych.data.scenes import draw_scenes, easy
from diptych.data.show import Holds
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An imagefolder of three pictures, one of them broken, in a folder whose name must be quoted."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number in range(3):
        out = io.BytesIO()
        Image.new("RGB", (5, 3), (number, 0, 0)).save(out, "PNG")
        (folder / f"{number}.png").write_bytes(out.getvalue() if number < 2 else b"no picture")
    rows = [{"file_name": f"{number}.png", "text": f"text {number}"} for number in range(3)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_import_says_what_came_and_what_is_next(spoken: Command, source: Path, tmp_path: Path) -> None:
    out, counts = tmp_path / "my table", tmp_path / "counts.json"
    code, said, _ = spoken("data", "import", source, out, "--max-rejects", "0.5", "--json", counts)
    assert code == 0
    assert f"1 rejected, listed in {out}/rejects.jsonl" in said
    next_line = said.strip().splitlines()[-1]
    assert next_line.startswith("Next: diptych train clip tiny --data ")
    words = ["--data", str(out), "--out", "runs/my table", "--set", "training.eval_split=train"]
    assert shlex.split(next_line)[-6:] == words
    written = json.loads(counts.read_text())
    assert (written["splits"], written["texts"], written["rejects"]) == ({"train": 2}, 2, 1)
    assert (written["format"], written["out"]) == ("imagefolder", str(out))


def test_a_folder_of_pictures_alone_goes_on_to_their_regions(
    spoken: Command, source: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (source / "metadata.jsonl").unlink()
    code, said, _ = spoken("data", "import", source, "my table", "--max-rejects", "0.5")
    assert code == 0 and "pictures alone, without texts or labels" in said
    assert said.endswith("Next: diptych regions extract 'my table' --tower CLIP --out 'my table-regions'\n")


def test_import_of_too_many_bad_rows_fails_in_words(spoken: Command, source: Path, tmp_path: Path) -> None:
    code, _, said = spoken("data", "import", source, tmp_path / "out")
    assert code == 1
    assert "1 of the 3 rows" in said
    assert "--max-rejects" in said
    assert "out.partial/rejects.jsonl" in said
    assert "Traceback" not in said


def test_an_unknown_format_is_wrong_usage_with_the_nearest_name(spoken: Command, source: Path, tmp_path: Path) -> None:
    code, _, said = spoken("data", "import", source, tmp_path / "out", "--format", "image-folder")
    assert code == 2
    assert "did you mean 'imagefolder'?" in said


def test_a_source_that_is_not_there_fails_in_words(spoken: Command, source: Path, tmp_path: Path) -> None:
    code, _, said = spoken("data", "import", tmp_path / "my photo", tmp_path / "out")
    assert code == 1
    assert f"did you mean {source}?" in said


def test_scenes_draws_a_table(spoken: Command, tmp_path: Path) -> None:
    out = tmp_path / "world"
    code, said, _ = spoken("data", "scenes", out, "--n", 24, "--size", 32, "--seed", 3, "--workers", 1)
    assert code == 0
    assert (out / "table.json").is_file()
    assert said.strip().splitlines()[-1] == f"Next: diptych train clip tiny --data {out} --out runs/world"


def test_scenes_of_an_unknown_style_name_the_nearest(spoken: Command, tmp_path: Path) -> None:
    code, _, said = spoken("data", "scenes", tmp_path / "world", "--style", "eazy")
    assert code == 2
    assert "did you mean 'easy'?" in said


def test_a_dial_of_the_world_is_checked(spoken: Command, tmp_path: Path) -> None:
    code, _, said = spoken("data", "scenes", tmp_path / "world", "--set", "cluter=3")
    assert code == 2
    assert "did you mean 'clutter'?" in said


def test_show_tells_what_a_table_holds(spoken: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spoken("data", "import", source, out, "--max-rejects", "0.5")
    code, said, _ = spoken("data", "show", out, "--json", tmp_path / "counts.json")
    assert code == 0
    assert "train" in said
    assert said.strip().splitlines()[-1] == f"Next: diptych data show {out} --html out.html"
    assert json.loads((tmp_path / "counts.json").read_text())["splits"]["train"]["texts"] == 2
    code, said, _ = spoken("data", "show", out, "--html", tmp_path / "sheet.html")
    assert code == 0
    assert "text 0" in (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert said.strip().splitlines()[-1].startswith("Next: diptych train clip tiny")


def test_show_of_what_is_no_table_says_how_to_make_one(spoken: Command, source: Path) -> None:
    code, _, said = spoken("data", "show", source)
    assert code == 1
    assert "diptych data import" in said


def test_import_says_what_it_held_out_and_trains_on_the_splits_there_are(spoken: Command, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        Image.new("RGB", (5, 3), (number, 0, 0)).save(folder / f"{number}.png")
    lines = "".join(json.dumps({"file_name": f"{number}.png", "text": "a text"}) + "\n" for number in range(20))
    (folder / "metadata.jsonl").write_text(lines)
    code, said, _ = spoken("data", "import", folder, tmp_path / "out", "--validation", "0.2", "--json", tmp_path / "j")
    held = json.loads((tmp_path / "j").read_text())["splits"]["validation"]
    assert code == 0
    assert f"held out {held} of 20 as validation" in said
    assert said.strip().endswith("--out runs/out")
    code, said, _ = spoken("data", "import", folder, tmp_path / "whole", "--validation", "0")
    assert "held out" not in said
    assert said.strip().endswith("--out runs/whole --set training.eval_split=train")
    code, _, said = spoken("data", "import", folder, tmp_path / "other", "--validation", "1")
    assert code == 2
    assert "--validation is 1.0" in said


@pytest.mark.parametrize(
    ("holds", "command"),
    [
        ("texts", "diptych train uniter tiny --data 'a b' --regions REGIONS --out 'runs/a b'"),
        ("vqa", "diptych finetune RUN tiny_vqa --data 'a b' --regions REGIONS --out runs/vqa"),
        ("ve", "diptych finetune RUN tiny_ve --data 'a b' --regions REGIONS --out runs/ve"),
        ("pictures", "diptych data show 'a b' --html 'a b.html'"),
        ("store", "diptych regions show 'a b'"),
    ],
)
def test_the_next_command_is_for_what_a_table_holds(holds: Holds, command: str) -> None:
    assert data._next(Path("a b"), ("train", "validation"), holds) == command


def test_show_of_texts_without_pictures_goes_on_to_a_model_that_needs_none(spoken: Command, tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="a", image=None, texts=["text alone"])
    for page in ((), ("--html", tmp_path / "t.html")):
        code, said, _ = spoken("data", "show", tmp_path / "t", *page)
        assert code == 0
        assert said.strip().splitlines()[-1].startswith("Next: diptych train uniter tiny --data ")


@pytest.mark.parametrize(
    ("splits", "settings"),
    [
        (("train", "validation", "test"), []),
        (("train", "test"), ["training.eval_split=test"]),
        (("restval",), ["inputs.split=restval", "training.eval_split=restval"]),
    ],
)
def test_the_next_command_names_splits_that_are_there(splits: tuple[str, ...], settings: list[str]) -> None:
    words = shlex.split(data._next(Path("a b"), splits))
    assert [word for word in words if "=" in word] == settings


def test_examples_of_files_say_what_came(spoken: Command, tmp_path: Path) -> None:
    lines = [{"identifier": f"dev-{number}-0-0", "sentence": "a", "label": "True"} for number in range(3)]
    lines[1]["label"] = "?"
    (tmp_path / "dev.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("data", "examples", tmp_path / "dev.json")
    counts = tmp_path / "counts.json"
    names = ("--picture-key", "nlvr2_{id}-img{side}.npz")
    code, said, log = spoken(*words, tmp_path / "out", "--task", "nlvr2", *names, "--json", counts)
    assert code == 0
    assert f"1 rejected, listed in {tmp_path / 'out' / 'rejects.jsonl'}" in log
    assert said.splitlines()[-1].startswith(f"Next: diptych finetune RUN tiny_nlvr2 --data {tmp_path / 'out'} ")
    told = json.loads(counts.read_text())
    assert (told["task"], told["splits"], told["rejects"]) == ("nlvr2", {"validation": 2}, 1)


@pytest.mark.parametrize("task", ["vqa", "ve", "nlvr2", "vcr", "re"])
def test_examples_of_scenes(spoken: Command, tmp_path: Path, task: str) -> None:
    draw_scenes(tmp_path / "scenes", easy(num=96, size_px=32), workers=1)
    code, said, _ = spoken("data", "examples", tmp_path / "scenes", tmp_path / "out", "--task", task)
    assert code == 0 and f"tiny_{task} --data" in said
    assert set(open_table(tmp_path / "out").splits) == {"train", "validation", "test", "unseen_pairs"}


def test_mistakes_with_examples(spoken: Command, tmp_path: Path) -> None:
    (tmp_path / "vcr").mkdir()
    words = ("data", "examples", tmp_path / "vcr", tmp_path / "out", "--task", "vcr")
    for more, expected in (
        ((), "no file of questions; expected VCR's, e.g. train.jsonl"),
        (("--picture-key", "{nr}"), "--picture-key '{nr}' cannot be filled in ('nr'); there are name, stem, split"),
        (("--picture-key", "a", "--picture-key", "b", "--picture-key", "c"), "for VCR it is given at most 2"),
    ):
        code, _, log = spoken(*words, *more)
        assert code in (1, 2) and expected in log and "Traceback" not in log
    draw_scenes(tmp_path / "scenes", easy(num=16, size_px=32), workers=1)
    code, _, log = spoken("data", "examples", tmp_path / "scenes", tmp_path / "out", "--task", "re", *more)
    assert code == 2 and "--picture-key is for files" in log
