"""Twenty steps of each `tiny()` recipe follow the curve that was once recorded.

Record anew, after a change that is meant to move the curve: python tests/curves/test_tiny.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from diptych import systems
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.overrides import apply_overrides
from diptych.train.loop import fit

FILE = Path(__file__).with_name("tiny.json")
STEPS = 20
TOLERANCE = 0.005
"""Threads and instruction sets (AVX2 for AVX-512) moved a loss by 1e-6; the rest is for other versions of libraries."""


def losses(system: str, table: Table, out: Path) -> list[float]:
    """The training loss of each step."""
    run = systems.recipe(system, "tiny")
    run = apply_overrides(run, [f"training.steps={STEPS}", "training.eval_every=none", "inputs.workers=0"])
    rows = table.split("train")
    job = systems.build(run, texts=rows.texts(), rows=rows)
    fit(job, table, out, device="cpu")
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def scenes(folder: Path) -> Table:
    draw_scenes(folder, easy(num=300, seed=0), workers=1)
    return open_table(folder)


@pytest.mark.slow
@pytest.mark.parametrize("system", systems.NAMES)
def test_the_loss_follows_its_curve(system: str, tmp_path: Path) -> None:
    found = losses(system, scenes(tmp_path / "scenes"), tmp_path / "run")
    assert found == pytest.approx(json.loads(FILE.read_text())["losses"][system], abs=TOLERANCE)
    assert sum(found[-5:]) < sum(found[:5])


def record() -> None:
    """Writes the file with the curve of every system."""
    with tempfile.TemporaryDirectory() as folder:
        table = scenes(Path(folder) / "scenes")
        curves = {system: losses(system, table, Path(folder) / system) for system in systems.NAMES}
    note = f"python tests/curves/{Path(__file__).name}; torch {torch.__version__}, scenes easy(num=300, seed=0)"
    FILE.write_text(json.dumps({"made_by": note, "losses": curves}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(record())
