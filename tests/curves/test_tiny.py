"""Twenty steps of each `tiny()` recipe follow the curve that was once recorded.

Record anew, after a change that is meant to move the curve: python tests/curves/test_tiny.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych import systems
from diptych.data.region_join import region_columns
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.overrides import apply_overrides
from diptych.train.fit import fit

FILE = Path(__file__).with_name("tiny.json")
STEPS = 20
TOLERANCE = 0.005
"""Threads and instruction sets (AVX2 for AVX-512) moved a loss by 1e-6; the rest is for other versions of libraries."""


def steps(system: str, table: Table, out: Path) -> list[dict[str, Any]]:
    """What the log says of each step."""
    run = systems.recipe(system, "tiny")
    run = apply_overrides(run, [f"training.steps={STEPS}", "training.eval_every=none", "inputs.workers=0"])
    rows = table.split("train")
    job = systems.build(run, texts=rows.texts(), rows=rows)
    fit(job, table, out, device="cpu")
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


def scenes(folder: Path, chance_regions: Any) -> Table:
    draw_scenes(folder / "scenes", easy(num=300, seed=0), workers=1)
    table = open_table(folder / "scenes")
    return table.joined(region_columns([chance_regions.write_regions(table, folder / "regions")]))


@pytest.mark.slow
@pytest.mark.parametrize("system", systems.NAMES)
def test_the_loss_follows_its_curve(system: str, tmp_path: Path, chance_regions: Any) -> None:
    found = steps(system, scenes(tmp_path, chance_regions), tmp_path / "run")
    recorded = json.loads(FILE.read_text())["losses"][system]
    assert [step["loss"] for step in found] == pytest.approx(recorded, abs=TOLERANCE)
    name = next(iter(found[0]["terms"]))  # of a mixture, the task of the first step
    term = [step["terms"][name] for step in found if name in step["terms"]]
    quarter = -(-len(term) // 4)
    assert sum(term[-quarter:]) < sum(term[:quarter])


def record() -> None:
    """Writes the file with the curve of every system."""
    sys.path.append(str(FILE.parents[1] / "data"))
    import chance_regions

    with tempfile.TemporaryDirectory() as folder:
        table = scenes(Path(folder), chance_regions)
        curves = {
            system: [step["loss"] for step in steps(system, table, Path(folder) / system)] for system in systems.NAMES
        }
    note = f"python tests/curves/{Path(__file__).name}; torch {torch.__version__}, scenes easy(num=300, seed=0)"
    FILE.write_text(json.dumps({"made_by": note, "losses": curves}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(record())
