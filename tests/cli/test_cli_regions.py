"""`diptych regions`: from a table and a tiny CLIP to a store and a page, and every mistake in one line."""

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

from diptych.cli.main import main
from diptych.cli.train import with_regions
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scenes`, and `clip`, a CLIP of two steps."""
    folder = tmp_path_factory.mktemp("regions")
    draw_scenes(folder / "scenes", easy(num=40, size_px=48), workers=1)
    (folder / "words.txt").write_text("circle\nsquare\nstar\n", encoding="utf-8")
    words = ["train", "clip", "tiny", "--data", str(folder / "scenes"), "--out", str(folder / "clip")]
    few = ["--set", "training.steps=2", "--set", "inputs.workers=0", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        main([*words, *few])
    assert not stop.value.code
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a verb; returns exit code, standard output and standard error."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["regions", *map(str, words)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


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
def test_windows_over_photographs(place: Path, run: Command, tmp_path: Path, shared: Path) -> None:
    """A few of Flickr8k's, from the import on; the tower has seen drawings alone, which features do not mind."""
    photos = pq.read_table(next((shared / "data" / "flickr8k").glob("extra-*.parquet"))).slice(0, 7)
    (tmp_path / "photos").mkdir()
    pq.write_table(photos, tmp_path / "photos" / "train-00000-of-00001.parquet")
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(tmp_path / "photos"), str(tmp_path / "flickr")])
    assert not stop.value.code
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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Regions of three pictures, with named classes."""
    spec = RegionSpec(
        detector="drawn", detector_hash="d", rule="all", feature_kind="none", feature_width=4,
        classes=("dog", "cat", "bird", "fish", "cow"), box_kind="proposal",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with RegionWriter(tmp_path / "store", spec) as writer:
        for number in range(3):
            low = rng.integers(0, 20, (6, 2))
            regions = Regions(
                height_px=50,
                width_px=60,
                boxes=np.concatenate([low, low + rng.integers(5, 25, (6, 2))], axis=1).astype(np.float32),
                features=rng.random((6, 4), np.float32),
                scores=np.linspace(0.9, 0.4, 6, dtype=np.float32),
                class_ids=np.tile(np.arange(5, dtype=np.int32), (6, 1)),
                class_probs=np.tile(np.array([0.5, 0.2, 0.1, 0.1, 0.05], np.float32), (6, 1)),
            )
            writer.add(f"k{number}", regions)
    return tmp_path / "store"


@pytest.mark.parametrize("form", ["butd-tsv", "lxmert-tsv", "oscar-tsv"])
def test_exported_and_imported_again_they_are_the_same(store: Path, run: Command, tmp_path: Path, form: str) -> None:
    code, told, said = run("export", store, tmp_path / "old", "--to", form)
    assert code == 0 and f"({form}, 3 pictures)" in told, said
    left = {"butd-tsv": "classes, scores", "oscar-tsv": "classes behind the likeliest"}
    assert (
        f"Left out, since {form} does not hold them: {left.get(form, 'classes behind the likeliest, scores')}" in told
    )
    assert told.splitlines()[-1] == f"Next: diptych regions compare {tmp_path / 'old'} {store}"
    code, told, said = run("import", tmp_path / "old", tmp_path / "again", "--json", tmp_path / "n.json")
    assert code == 0, said
    assert json.loads((tmp_path / "n.json").read_text())["pictures"] == 3
    code, told, said = run("compare", tmp_path / "again", store, "--json", tmp_path / "c.json")
    assert code == 0 and "100.0 %" in told, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["missing"]) == (3, 0)
    assert numbers["mean_iou"] == pytest.approx(1, abs=1e-4) and numbers["mean_cosine"] == pytest.approx(1, abs=1e-4)
    before, after = open_region_table(store).regions("k1"), open_region_table(tmp_path / "again").regions("k1")
    np.testing.assert_array_equal(before.features, after.features)


def test_old_files_are_shown_in_place(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "old", "--to", "oscar-tsv")[0] == 0
    code, told, said = run("show", tmp_path / "old")
    assert code == 0, said
    assert "drawn" in told and "dog (18)" in told


def test_a_damaged_row_ends_neither_show_nor_compare(store: Path, run: Command, tmp_path: Path) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0
    rows = [row.split("\t") for row in old.read_text().splitlines()]
    rows[1][4] = rows[1][4][:-8]
    old.write_text("".join("\t".join(row) + "\n" for row in rows))
    code, told, said = run("show", old, "--json", tmp_path / "s.json")
    assert code == 0 and "1 of 3 pictures looked at" in told and "k1" in told and "bytes; expected" in told, said
    assert list(json.loads((tmp_path / "s.json").read_text())["damaged"]) == ["k1"]
    code, told, said = run("compare", old, store, "--json", tmp_path / "c.json")
    assert code == 0 and "Damaged rows" in told and "bytes; expected" in told, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["damaged"], list(numbers["damage"])) == (2, 1, ["k1"])


def test_a_row_without_a_key_of_its_own_is_said_by_every_command(
    store: Path, scenes: Path, run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0
    old.write_bytes(old.read_bytes().replace(b"k1\t", b"caf\xe9\t"))
    note = f"Note: 1 row is left out {old}, row 2, since its key is no UTF-8 text."
    for words in (
        ["show", old],
        ["import", old, tmp_path / "in"],
        ["export", old, tmp_path / "out", "--to", "butd-tsv"],
    ):
        code, told, said = run(*words)
        assert code == 0 and note in said.replace("\n", " "), said
        assert "its key is no UTF-8 text" in told
    for listed in (tmp_path / "in" / "rejects.jsonl", tmp_path / "out.rejects.jsonl"):
        assert json.loads(listed.read_text())["key"] == "caf\\xe9"
    code, _, said = run("compare", old, store)
    assert code == 0 and note in said.replace("\n", " ")
    with_regions(open_table(scenes), [old])
    assert note in capsys.readouterr().err.replace("\n", " ")


def test_a_refused_export_leaves_nothing_in_the_way_of_the_one_it_advises(
    store: Path, run: Command, tmp_path: Path
) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0  # without classes
    code, told, said = run("export", old, tmp_path / "out", "--to", "oscar-tsv")
    assert code == 1 and told == "" and "no classes, which oscar-tsv holds; write butd-tsv or uniter-npz" in said
    assert not list(tmp_path.glob("out*"))
    code, told, said = run("export", old, tmp_path / "out", "--to", "uniter-npz")
    assert code == 0 and f"x1 and y1 are where a box ends, as {tmp_path / 'out.regions.json'} says" in told, said


def test_a_folder_of_npz_is_compared_with_the_store_it_is_of(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "npz", "--to", "uniter-npz")[0] == 0
    code, _, said = run("compare", tmp_path / "npz", store, "--json", tmp_path / "c.json")
    assert code == 0, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["missing"], numbers["keys"]) == (3, 0, "name")
    code, _, said = run("compare", tmp_path / "npz", store, "--keys", "same")
    assert code == 1 and "like 'k0.npz', 'k1.npz', 'k2.npz'; of the second like 'k0', 'k1', 'k2'" in said


def test_names_of_old_files_are_given_and_are_not_for_a_store(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "old.tsv", "--to", "lxmert-tsv")[0] == 0
    (tmp_path / "old.tsv.regions.json").unlink()
    names = tmp_path / "names.txt"
    names.write_text("Hund,dog\nKatze\nVogel\nFisch\nKuh\n")
    code, told, said = run("show", tmp_path / "old.tsv", "--classes", names)
    assert code == 0 and "hund (18)" in told, said
    for verb in (["show", store], ["export", store, tmp_path / "x", "--to", "butd-tsv"], ["import", store, "x"]):
        code, told, said = run(*verb, "--classes", names)
        assert code == 2 and told == "" and "is a store, which knows the names of its classes" in said
        code, told, said = run(*verb, "--labels", names)
        assert code == 2 and "--labels is for Oscar's pairs of files, and" in said and "is diptych" in said
    code, _, said = run("show", tmp_path / "old.tsv", "--labels", names)
    assert code == 2 and "is butd-tsv; leave it out" in said


MISTAKES = [
    (["export", "DATA", "r", "--to", "lxmert"], 2, "there is no format 'lxmert'; did you mean 'lxmert-tsv'"),
    (["import", "nowhere", "r"], 1, "there is nothing at nowhere"),
    (["compare", "DATA", "DATA"], 1, "is a table, but no store of regions"),
    (["extract", "DATA", "--detector", "window:x", "--out", "r"], 2, "there is no detector 'window'; did you mean"),
    (["extract", "DATA", "--detector", "windows", "--out", "r"], 2, "the detector 'windows' says no weights"),
    (["extract", "DATA", "--detector", "windows:nowhere", "--out", "r"], 1, "there is no file or folder nowhere"),
    (["extract", "nowhere", "--detector", "windows:x", "--out", "r"], 1, "nowhere is no table"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--split", "tset"], 1, "did you mean 'test'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--boxes", "object"], 1, "did you mean 'objects'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--boxes", "texts"], 1, "expected a list of boxes"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--preset", "unitr"], 2, "did you mean 'uniter'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--max-rejects", "nan"], 2, "--max-rejects is nan"),
    (["extract", "DATA", "--tower", "x", "--out", "r", "--template", "a {}"], 2, "pass them: --words FILE"),
    (["show", "notes.json"], 1, "notes.json holds no regions: none of its first rows has a tab. Expected a store"),
    (["show", "DATA", "--data", "DATA", "--html", "."], 2, "'--html': file '.' is a directory"),
    (["show", "DATA", "--json", "."], 2, "'--json': file '.' is a directory"),
    (["show", "DATA"], 1, "is a table, but no store of regions"),
    (["show", "DATA", "--html", "x.html"], 2, "name their table too: --data DATA"),
    (["shwo"], 2, "did you mean 'show'"),
]


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_told_in_one_line(
    words: list[str],
    code: int,
    message: str,
    run: Command,
    tmp_path: Path,
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.json").write_text('{\n "a": 1,\n "b": {\n }\n}\n', encoding="utf-8")
    found, told, said = run(*[str(scenes) if word == "DATA" else word for word in words])
    assert found == code and message in said, said
    assert said.startswith("Error: ") and "Traceback" not in said and told == ""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    draw_scenes(folder, easy(num=30, size_px=48), workers=1)
    return folder
