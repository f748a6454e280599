"""The picture world as a table: the same bytes from any number of workers, open to other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from diptych.data.scenes import draw_scenes, easy, hard
from diptych.data.scenes.drawing import world_of
from diptych.data.scenes.scene import COLUMNS, make_scene
from diptych.data.scenes.splits import split_sizes
from diptych.data.table import open_table
from diptych.errors import RunExistsError

WORLD = easy(num=48, size_px=32)


@dataclass
class Counting:
    """A Progress that remembers what it was told."""

    done: float = 0
    said: list[str] = field(default_factory=list)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> Self:
        self.total = total
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
def test_a_script_without_a_main_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from diptych.data.scenes import draw_scenes, easy\n"
        f"draw_scenes(Path({str(tmp_path / 'world')!r}), easy(num=300, size_px=32), workers=2)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "DataError: a worker that drew scenes died" in ended.stderr
    assert "under `if __name__ == '__main__':`, or draw with workers=1" in ended.stderr
    assert not (tmp_path / "world").exists()


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
