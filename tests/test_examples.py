"""The scripts in examples/ do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.data.region_store import open_region_table
from diptych.data.scenes import draw_scenes, easy

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.slow
def test_a_large_step_is_the_same_in_any_split(tmp_path: Path) -> None:
    """At 512 pairs in place of 32,768: all at once, in equal parts, and in parts that do not divide it."""
    script, out = EXAMPLES / "large_batch.py", tmp_path / "out"
    asked = ["--batch", "512", "--micro-batch", "auto", "128", "150", "--device", "cpu", "--out", str(out)]
    done = subprocess.run([sys.executable, str(script), *asked], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["micro_auto", "512"], ["micro_128", "128"], ["micro_150", "150"]]
    for row in rows:
        loss, norm, loss_apart, grad_apart = map(float, row[2:6])
        assert 0 < loss < 10 and norm > 0
        assert loss_apart < 1e-5 and grad_apart < 1e-5
        assert float(row[7]) > 0 and row[8] in ("MB", "GB")


@pytest.mark.slow
def test_regions_of_pictures_in_a_folder(exit_code: Callable[..., int], tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", easy(num=40, size_px=48), workers=1)
    few = ["--set", "training.steps=2", "--set", "inputs.workers=0", "--device", "cpu"]
    command = ("train", "clip", "tiny", "--data", tmp_path / "scenes", "--out", tmp_path / "clip")
    assert exit_code(*command, *few) == 0
    pictures = tmp_path / "mine" / "deeper"
    pictures.mkdir(parents=True)
    drawn = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(drawn).save(pictures / "a.png")
    Image.fromarray(drawn[:, ::-1]).save(pictures.parent / "b.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    (tmp_path / "words.txt").write_text("circle\nsquare\n", encoding="utf-8")
    asked = ["--tower", "clip", "--words", "words.txt", "--out", "r", "--device", "cpu"]
    script = [sys.executable, str(EXAMPLES / "own_regions.py"), "mine", *asked]
    done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path)
    store = open_region_table(tmp_path / "r")
    assert sorted(store.keys()) == ["b.png", "deeper/a.png"]
    assert "70 regions of 2 pictures" in done.stdout and "left out: " in done.stdout
    assert store.spec.classes == ("circle", "square") and store.regions("b.png").boxes[0].tolist() == [0, 0, 50, 30]
    assert "deeper/a.png: 35 regions" in done.stdout
