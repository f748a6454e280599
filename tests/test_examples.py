"""The scripts in examples/ do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
