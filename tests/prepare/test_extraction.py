"""Regions of a table: what is in the store, what was rejected, and that no kill or number of processes changes it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diptych.data.region_shards import RegionShards
from diptych.data.region_store import open_region_table
from diptych.data.table import Table
from diptych.errors import DataError, InterruptedRunError, RunExistsError
from diptych.prepare.extraction import Asked, ExtractionResult, extract_regions
from diptych.prepare.given import boxes_of, check_boxes_column
from diptych.prepare.presets import preset
from diptych.progress import Silent

PROGRAM = Path(__file__).with_name("ranks_program.py")
ASKED = Asked(batch=2, pictures_per_shard=4, max_rejects=0.5)


def extract(detector: Any, table: Table, out: Path, asked: Asked = ASKED, **more: Any) -> ExtractionResult:
    return extract_regions(detector, table, RegionShards(out, detector.spec, source="test"), asked, **more)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_store_holds_every_good_picture_in_the_order_of_the_table(
    detector: Any, table: Table, tmp_path: Path
) -> None:
    result = extract(detector, table, tmp_path / "regions")
    store = open_region_table(tmp_path / "regions")
    assert list(store.keys()) == [f"k{number:03d}" for number in range(23) if number not in (4, 9, 15)]
    found = store.regions("k007")  # 17 wide: 35 at the left, 243 from pixel 8 on
    assert found.boxes.tolist() == [[8.5, 0, 17, 8], [0, 0, 8.5, 8]]
    assert found.features.tolist() == [[243, 17, 0.5], [35, 17, 0.5]]
    assert found.class_ids is not None and found.class_ids.tolist() == [[1, 0], [0, 1]]
    assert (result.pictures, result.regions, result.rejects, result.shards) == (20, 40, 3, 7)
    assert store.spec == detector.spec


def test_bad_pictures_cost_themselves_and_a_line(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "regions")
    lines = [json.loads(line) for line in (tmp_path / "regions" / "rejects.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["k004", "k009", "k015"]
    assert "no JPEG" in lines[0]["reason"] and "bad luck" in lines[1]["reason"] and "NaN" in lines[2]["reason"]
    assert {line["source"] for line in lines} == {"train"}


def test_too_many_bad_pictures_stop_it_and_the_same_call_goes_on(detector: Any, table: Table, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 of 23 pictures are bad, more than --max-rejects 0.1 .*1 x"):
        extract(detector, table, tmp_path / "regions", replace(ASKED, max_rejects=0.1))
    assert not (tmp_path / "regions").exists()
    result = extract(detector, table, tmp_path / "regions")
    assert result.kept >= 3 and result.rejects == 3


def test_splits_and_a_limit(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "test", replace(ASKED, splits=("test",), limit=3))
    assert list(open_region_table(tmp_path / "test").keys()) == ["k017", "k019", "k021"]


def test_given_boxes_instead_of_the_detectors(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "regions", replace(ASKED, boxes="mine", splits=("test",)))
    store = open_region_table(tmp_path / "regions")
    assert sorted(store.regions("k019").boxes.tolist()) == [[0, 0, 4, 4], [2, 1, 6, 8]]
    spec = replace(ASKED, boxes="mine").spec(detector, "windows")
    assert (spec.box_kind, spec.rule, spec.score_kind) == ("given", "given(mine)", "none")
    assert store.regions("k018").boxes.tolist() == [[0, 0, 28, 8]]  # none are given: the whole picture


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("mime", "there is no column 'mime'; did you mean 'mine'"),
        ("note", "is string; expected a list of boxes in pixels"),
        ("texts", "expected a list of boxes"),
    ],
)
def test_columns_that_hold_no_boxes_are_told(table: Table, column: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        check_boxes_column(table, column)


def test_boxes_of_a_row_are_corners_by_name_or_in_order() -> None:
    picture = Image.new("L", (9, 5))
    named = [{"name": "cat", "x0": 1, "y0": 2, "x1": 3, "y1": 4}]
    assert boxes_of(named, picture).tolist() == boxes_of([[1, 2, 3, 4]], picture).tolist() == [[1, 2, 3, 4]]
    assert boxes_of(None, picture).tolist() == boxes_of([], picture).tolist() == [[0, 0, 9, 5]]
    for wrong in ([[1, 2, 3]], [[1, 2, 3, None]], [{"x0": 1, "y0": 1, "x1": None, "y1": 2}]):
        with pytest.raises(DataError, match="expected four numbers"):
            boxes_of(wrong, picture)


def test_a_preset_keeps_the_best(detector: Any, table: Table, tmp_path: Path) -> None:
    one = replace(preset("uniter"), min_kept=1)
    extract(detector, table, tmp_path / "regions", replace(ASKED, preset=one))
    store = open_region_table(tmp_path / "regions")
    assert len(store.regions("k007")) == 1  # 35 / 255 is below 0.2
    assert len(store.regions("k014")) == 2


def test_it_is_predicted_before_it_begins(detector: Any, table: Table, tmp_path: Path) -> None:
    said: list[str] = []
    progress = Silent()
    progress.say = said.append  # type: ignore[method-assign]
    result = extract(detector, table, tmp_path / "regions", progress=progress)
    assert result.forecast is not None and result.forecast.pictures == 23
    row = 8 + 2 * (4 * 4 + 3 * 2 + 4 + 2 * (4 + 2))  # size; boxes, features, score, two classes of two regions
    assert result.forecast.bytes == 23 * row
    assert said[0].startswith("23 pictures to go: about ") and "on disk" in said[0]


def test_a_disk_too_small_is_told_before_the_work(
    detector: Any, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match=r"take about 1.\d+ kB, and the disk of .* has 100 B free"):
        extract(detector, table, tmp_path / "regions")


def test_a_store_that_is_there_is_not_written_over(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "regions")
    before = content(tmp_path / "regions")
    with pytest.raises(RunExistsError):
        extract(detector, table, tmp_path / "regions")
    assert content(tmp_path / "regions") == before


def test_stopped_anywhere_it_goes_on_to_the_same_bytes(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "whole")
    detect = detector.detect
    for stop_after in (1, 5, 8):
        left = [stop_after]

        def stopping(pictures: Any, given: Any = None, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return detect(pictures, given)

        detector.detect = stopping
        with pytest.raises(InterruptedRunError, match="the same command goes on"):
            extract(detector, table, tmp_path / "regions")
    detector.detect = detect
    assert extract(detector, table, tmp_path / "regions").kept > 0
    assert content(tmp_path / "regions") == content(tmp_path / "whole")


def test_another_table_or_rule_does_not_go_on(detector: Any, table: Table, tmp_path: Path) -> None:
    shards = RegionShards(tmp_path / "regions", detector.spec, source="one")
    shards.begin()
    shards.let_go()
    with pytest.raises(DataError, match="was begun with"):
        extract(detector, table, tmp_path / "regions")


def test_a_picture_without_regions_is_kept(detector: Any, table: Table, tmp_path: Path) -> None:
    """The minimum rule is the detector's: what it says is stored, be it nothing."""
    detect = detector.detect
    none = replace(preset("oscar"), min_kept=0, max_kept=0)
    detector.detect = lambda pictures, given: [none.keep(one) for one in detect(pictures, given)]
    extract(detector, table, tmp_path / "regions", replace(ASKED, splits=("test",)))
    assert len(open_region_table(tmp_path / "regions").regions("k020")) == 0


def processes(size: int, *words: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), *words],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(size)
    ]


def ended(running: Sequence[subprocess.Popen[str]]) -> None:
    for process in running:
        told = process.communicate(timeout=120)[1]
        assert process.returncode == 0, told


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_processes_that_share_the_work_write_the_store_of_one(
    detector: Any, table: Table, tmp_path: Path, size: int
) -> None:
    extract(detector, table, tmp_path / "one")
    ended(processes(size, str(table.path), str(tmp_path / "many")))
    assert content(tmp_path / "many") == content(tmp_path / "one")


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_never_killed(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "whole")
    out, rng = tmp_path / "killed", random.Random(0)
    for size in (1, 2, 1):
        running = processes(size, str(table.path), str(out), "0.05")
        partial = out.with_name("killed.partial")
        before = len(list(partial.glob("*.arrow")))
        while len(list(partial.glob("*.arrow"))) <= before and all(one.poll() is None for one in running):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    shards = len(list(partial.glob("*.arrow")))
    assert 3 <= shards < 7 and not out.exists()
    assert extract(detector, table, out).kept == shards
    assert content(out) == content(tmp_path / "whole")


def test_batches_are_cut_alike_however_far_an_earlier_attempt_came(detector: Any, table: Table, tmp_path: Path) -> None:
    extract(detector, table, tmp_path / "regions", replace(ASKED, splits=("test",), batch=3))
    assert detector.batches[2:] == [3, 1, 2] or detector.batches[-3:] == [3, 1, 2]
    assert np.isfinite(open_region_table(tmp_path / "regions").regions("k018").features).all()
