"""`diptych regions extract`: from a table and a tiny CLIP to a store and a page, in one process and in two."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from diptych.data.region_store import open_region_table
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(exit_code: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scenes`, and `clip`, a CLIP of two steps."""
    folder = tmp_path_factory.mktemp("regions")
    draw_scenes(folder / "scenes", easy(num=40, size_px=48), workers=1)
    (folder / "words.txt").write_text("circle\nsquare\nstar\n", encoding="utf-8")
    words = ["train", "clip", "tiny", "--data", str(folder / "scenes"), "--out", str(folder / "clip")]
    few = ["--set", "training.steps=2", "--set", "inputs.workers=0", "--device", "cpu"]
    assert exit_code(*words, *few) == 0
    return folder


@pytest.mark.slow
def test_windows_of_a_clip_from_the_table_to_the_page(place: Path, run: Command, tmp_path: Path) -> None:
    out = tmp_path / "r"
    code, told, said = run(
        "extract", place / "scenes", "--tower", place / "clip", "--out", out, "--device", "cpu",
        "--words", place / "words.txt", "--split", "test", "--split", "validation", "--json", tmp_path / "n.json",
    )  # fmt: skip
    assert code == 0, said
    rows = open_table(place / "scenes").splits
    num = rows["test"] + rows["validation"]
    assert f"{num} pictures to go: about" in said and "35.0 a picture" in told
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert (numbers["pictures"], numbers["regions"], numbers["rejects"]) == (num, 35 * num, 0)
    assert numbers["spec"]["rule"] == "windows(scales=1+2+3)" and numbers["spec"]["consumer"] == ""
    assert numbers["forecast"]["pictures"] == num

    next_step = shlex.split(told.splitlines()[-1].removeprefix("Next: diptych regions "))
    assert next_step == ["show", str(out), "--data", str(place / "scenes"), "--html", "r.html"]
    code, told, said = run(*next_step[:-1], tmp_path / "r.html", "--json", tmp_path / "s.json", "--num", 3)
    assert code == 0, said
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg viewBox") == 3 and page.count("<rect ") == 3 * 12
    assert "square" in page and "http" not in page.replace("http-equiv", "")
    assert json.loads((tmp_path / "s.json").read_text())["pictures"] == num
    assert told.splitlines()[-1].startswith("Next: python3 -m webbrowser file://")


@pytest.mark.slow
def test_given_boxes_and_a_preset_of_another_detector(place: Path, run: Command, tmp_path: Path) -> None:
    code, _, said = run(
        "extract", place / "scenes", "--detector", f"grid:{place / 'clip'}", "--out", tmp_path / "r", "--boxes",
        "objects", "--preset", "uniter", "--limit", 4, "--split", "train", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, said
    assert "Note: The preset uniter is for UNITER base and large" in said
    store = open_region_table(tmp_path / "r")
    assert store.spec.rule == "given(objects)" and store.spec.box_kind == "given" and store.spec.score_kind == "none"
    assert store.spec.consumer == "no released weights: the rule of uniter on grid features"
    rows = open_table(place / "scenes").split("train")
    sample = rows.sample(0, ["objects"])
    given = [[one[side] for side in ("x0", "y0", "x1", "y1")] for one in sample.fields["objects"]]
    np.testing.assert_array_equal(store.regions(sample.key).boxes, np.array(given, np.float32).clip(0, 48))


@pytest.mark.slow
def test_a_grid_of_another_size(place: Path, run: Command, tmp_path: Path) -> None:
    words = ("extract", place / "scenes", "--detector", f"grid:{place / 'clip'}", "--out", tmp_path / "r")
    assert run(*words, "--set", "side=3", "--limit", 2, "--split", "test", "--device", "cpu")[0] == 0
    assert len(open_region_table(tmp_path / "r").regions("test-000000")) == 9
    code, _, said = run(*words[:-1], tmp_path / "other", "--set", "sides=3", "--device", "cpu")
    assert code == 2 and "did you mean 'side'" in said


@pytest.mark.slow
def test_two_processes_of_torchrun_write_the_store_of_one(place: Path, run: Command, tmp_path: Path) -> None:
    words = ["extract", place / "scenes", "--tower", place / "clip", "--device", "cpu", "--shard", 5]
    assert run(*words, "--out", tmp_path / "one")[0] == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "diptych", "regions", *map(str, words), "--out", str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Next: diptych regions show") == 1 and "process 1 of 2" in done.stderr
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one.keys() == two.keys() and sum(name.endswith(".arrow") for name in one) >= 8  # enough for both
    assert one == two


@pytest.mark.slow
def test_where_a_process_is_lost_the_advice_is_of_extraction(place: Path, tmp_path: Path) -> None:
    words = ["extract", place / "scenes", "--out", tmp_path / "r", "--device", "cpu"]
    running = ranks([*words, "--tower", place / "clip"], [*words, "--tower", tmp_path / "nowhere"])
    said = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [1, 1]
    assert "another of the 2 processes of this run died" in said[0] and "--resume" not in said[0]
    assert "shard by shard: the same command goes on from there." in said[0]


def ranks(*commands: list[object]) -> list[subprocess.Popen[str]]:
    """A process of each command, that take themselves for what torchrun began."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": f"{len(commands)}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "diptych", "regions", *map(str, words)],
            env={**shared, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "COLUMNS": "400"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, words in enumerate(commands)
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_windows_over_photographs(
    place: Path, exit_code: Callable[..., int], run: Command, tmp_path: Path, shared: Path
) -> None:
    """A few of Flickr8k's, from the import on; the tower has seen drawings alone, which features do not mind."""
    photos = pq.read_table(next((shared / "data" / "flickr8k").glob("extra-*.parquet"))).slice(0, 7)
    (tmp_path / "photos").mkdir()
    pq.write_table(photos, tmp_path / "photos" / "train-00000-of-00001.parquet")
    assert exit_code("data", "import", tmp_path / "photos", tmp_path / "flickr") == 0
    out = tmp_path / "r"
    words = ("extract", tmp_path / "flickr", "--tower", place / "clip", "--out", out, "--device", "cpu")
    code, told, said = run(*words, "--words", place / "words.txt")
    assert code == 0 and "245 (35.0 a picture)" in told, said
    store = open_region_table(out)
    rows = open_table(tmp_path / "flickr").split("extra")
    assert list(store.keys()) == [rows.sample(row).key for row in range(7)]
    first, other = (store.regions(rows.sample(row).key) for row in (0, 1))
    assert (first.height_px, first.width_px) == (224, 224)
    assert first.boxes[0].tolist() == [0, 0, 224, 224] and first.boxes[-1].tolist() == pytest.approx(
        [224 * 2 / 3, 224 * 2 / 3, 224, 224], abs=0.01
    )
    assert np.ptp(first.features.astype(np.float32), axis=0).max() > 0.01  # windows differ
    assert not np.allclose(first.features, other.features, atol=0.01)  # and so do pictures
    assert run("show", out, "--data", tmp_path / "flickr", "--html", tmp_path / "r.html")[0] == 0
    assert (tmp_path / "r.html").read_text(encoding="utf-8").count("<svg viewBox") == 7


def test_where_nothing_is_named_photographs_get_windows(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with TableWriter(tmp_path / "photos") as writer:
        writer.add("train", key="a", image=b"not looked at", texts=["a dog"])
    code, _, said = run("extract", "photos", "--out", "r")
    assert code == 2 and said.startswith("Error: nothing is named that makes the regions. Windows over")
    assert "train one: diptych train clip flickr8k --data photos --out runs/clip and then: " in said
    assert said.endswith("diptych regions extract photos --tower runs/clip --out r\n")
    with TableWriter(tmp_path / "alone") as writer:
        writer.add("train", key="a", image=b"not looked at")
    said = run("extract", "alone", "--out", "r")[2]
    assert (
        "train one: diptych train clip flickr8k --data PAIRS --out runs/clip (PAIRS: a table of pictures with" in said
    )
    for name, system in (("older", "clip"), ("newer", "clip"), ("own", "detector"), ("unborn", "clip")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps({"system": system}))
        if name != "unborn":
            (tmp_path / "runs" / name / "last").mkdir()
    os.utime(tmp_path / "runs" / "older" / "last", (1, 1))
    said = run("extract", "photos", "--out", "r")[2]
    assert said.endswith("over that of runs/newer: diptych regions extract photos --tower runs/newer --out r\n")
    code, _, said = run("extract", "photos", "--out", "r", "--tower", "runs/newer", "--detector", "own:runs/own")
    assert code == 2 and "leave one of them out" in said


def test_where_nothing_is_named_scenes_get_their_detector(
    scenes: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = run("extract", scenes, "--out", "r")
    assert code == 2
    assert said == (
        f"Error: nothing is named that makes the regions. These are built-in scenes; train a detector of them: diptych "
        f"regions train {scenes} --out runs/own and then: diptych regions extract {scenes} --detector own:runs/own "
        "--out r\n"
    )
