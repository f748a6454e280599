"""The picture world as a table: the same bytes from any number of workers, open to other tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest

from diptych.data.sample import Sample
from diptych.data.scenes import draw_scenes, easy, hard, painters
from diptych.data.scenes.columns import COLUMNS
from diptych.data.scenes.drawing import world_of
from diptych.data.scenes.scene import make_scene
from diptych.data.scenes.splits import split_sizes
from diptych.data.table import open_table
from diptych.errors import DataError, InterruptedRunError, RunExistsError

WORLD = easy(num=48, size_px=32)


@dataclass
class Counting:
    """A Progress that remembers what it was told."""

    done: float = 0
    said: list[str] = field(default_factory=list)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> Self:
        self.total, self.begun = total, done
        return self

    def advance(self, num: float = 1, note: str = "") -> None:
        self.done += num

    def say(self, message: str) -> None:
        self.said.append(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "world"
    draw_scenes(out, WORLD)
    return out


def test_the_table_holds_the_scenes(drawn: Path) -> None:
    table = open_table(drawn)
    assert table.splits == split_sizes(WORLD)
    assert set(COLUMNS) <= set(table.columns)
    scene, rows = make_scene(WORLD, "test", 2), table.split("test")
    row = rows.find([scene.key])[0]
    assert row is not None
    sample = rows.sample(row, tuple(COLUMNS))
    assert (sample.key, sample.image, sample.texts, sample.label) == (
        scene.key,
        scene.image,
        tuple(scene.texts),
        scene.label,
    )
    assert dict(sample.fields) == scene.fields


def test_the_table_names_what_its_numbers_mean(drawn: Path) -> None:
    meta = open_table(drawn).meta
    assert meta["label_names"] == [thing.name for thing in WORLD.things]
    assert len(meta["unseen_pairs"]) == 14
    assert meta["settings"]["seed"] == 0
    assert all("{}" in template for template in meta["templates"])


def test_drawing_again_gives_the_same_table_and_another_seed_another(drawn: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path / "again", WORLD)
    draw_scenes(tmp_path / "other", easy(num=48, size_px=32, seed=1))
    fingerprints = [open_table(path).fingerprint for path in (drawn, tmp_path / "again", tmp_path / "other")]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_progress_hears_of_every_scene(tmp_path: Path) -> None:
    progress = Counting()
    draw_scenes(tmp_path / "world", WORLD, progress=progress)
    assert progress.done == progress.total == 48


def test_nothing_is_drawn_over_what_is_there(drawn: Path) -> None:
    with pytest.raises(RunExistsError, match="is there already"):
        draw_scenes(drawn, WORLD)


def test_world_is_plain_json() -> None:
    for settings in (easy(), hard()):
        assert json.loads(json.dumps(world_of(settings)))["colours"] == list(settings.colours)


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    settings = hard(num=400, size_px=32)
    for workers in (1, 2, 3):
        draw_scenes(tmp_path / str(workers), settings, workers=workers)
    files = {workers: sorted((tmp_path / str(workers)).iterdir()) for workers in (1, 2, 3)}
    for one, two, three in zip(*files.values(), strict=True):
        assert one.name == two.name == three.name
        assert one.read_bytes() == two.read_bytes() == three.read_bytes()


@pytest.mark.slow
def test_a_script_without_a_main_guard_draws_with_several_processes_too(tmp_path: Path) -> None:
    """They import nothing of the script, which may be slow to import, or would start itself again."""
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from diptych.data.scenes import draw_scenes, easy\n"
        "print('once')\n"
        f"draw_scenes(Path({str(tmp_path / 'world')!r}), easy(num=300, size_px=32), workers=2)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "once\n", "")
    assert open_table(tmp_path / "world").splits["train"] > 200


def test_who_draws_imports_neither_torch_nor_arrow() -> None:
    asked = "import sys, diptych.data.scenes.painters; print({'torch', 'pyarrow'} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "set()\n"


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_what_is_drawn_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(self: Counting, num: float = 1, note: str = "") -> None:
        self.done += num
        for painter in begun:
            painter._process.kill()

    begun: list[painters._Painter] = []
    begin = painters._Painter.__init__
    monkeypatch.setattr(painters._Painter, "__init__", lambda self, world: (begun.append(self), begin(self, world))[1])
    monkeypatch.setattr(Counting, "advance", kill)
    with pytest.raises(DataError, match="died"):
        draw_scenes(tmp_path / "world", easy(num=3000, size_px=32), progress=Counting(), workers=2)
    assert len(begun) == 2
    assert list((tmp_path / "world.partial").glob("train-00000.arrow"))


class Stopping(Counting):
    """Ctrl-C as soon as so many scenes are drawn."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def advance(self, num: float = 1, note: str = "") -> None:
        super().advance(num)
        if self.done >= self.after:
            os.kill(os.getpid(), self.signal)

    signal = signal.SIGINT


class Terminating(Stopping):
    signal = signal.SIGTERM


@pytest.mark.parametrize("stopping", [Stopping, Terminating])
def test_stopped_and_resumed_is_never_interrupted(stopping: type[Stopping], tmp_path: Path) -> None:
    world = easy(num=300, size_px=32)
    draw_scenes(tmp_path / "whole", world)
    for after in (100, 128):
        with pytest.raises(
            InterruptedRunError, match=r"stopped; \d+ of 300 scenes are kept in .*the same command goes on"
        ):
            draw_scenes(tmp_path / "world", world, progress=stopping(after))
        assert not (tmp_path / "world").exists()
    told = Counting()
    draw_scenes(tmp_path / "world", world, progress=told)
    assert 128 < told.begun < 300
    assert told.begun + told.done == told.total == 300
    assert all_rows(tmp_path / "world") == all_rows(tmp_path / "whole")


class StoppingLate(Counting):
    """Ctrl-C when all is drawn and nothing is written whole yet."""

    def __exit__(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_after_the_last_scene_is_not_lost(tmp_path: Path) -> None:
    world = easy(num=48, size_px=32)
    with pytest.raises(InterruptedRunError, match="48 of 48 scenes are kept"):
        draw_scenes(tmp_path / "world", world, progress=StoppingLate())
    draw_scenes(tmp_path / "world", world)
    assert sum(open_table(tmp_path / "world").splits.values()) == 48


def all_rows(folder: Path) -> dict[str, list[Sample]]:
    table = open_table(folder)
    splits = {name: table.split(name) for name in table.splits}
    return {name: [rows.sample(row, tuple(COLUMNS)) for row in range(len(rows))] for name, rows in splits.items()}


def test_another_world_does_not_go_on_from_the_first(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        draw_scenes(tmp_path / "world", easy(num=300, size_px=32), progress=Stopping(1))
    with pytest.raises(DataError, match=r"begun with seed=0 \(now seed=1, clutter=3\)"):
        draw_scenes(tmp_path / "world", replace(easy(num=300, size_px=32, seed=1), clutter=3))


@pytest.mark.slow
def test_datasets_opens_the_table(drawn: Path, tmp_path: Path) -> None:
    import datasets

    files = {"test": [str(path) for path in sorted(drawn.glob("test-*.arrow"))]}
    rows = datasets.load_dataset("arrow", data_files=files, split="test", cache_dir=str(tmp_path))
    scene = make_scene(WORLD, "test", 0)
    assert len(rows) == split_sizes(WORLD)["test"]
    assert rows[0]["texts"] == scene.texts
    assert rows[0]["image"] == scene.image
    assert rows[0]["objects"] == scene.fields["objects"]
