"""`diptych demo --quick`, as a newcomer runs it: once, and once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_quick_demo_shows_every_part_and_is_then_finished(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Report: first/report.html" in first.stdout and "\nNext: diptych " in first.stdout
    page = (tmp_path / "first" / "report.html").read_bytes()
    assert page.startswith(b"<!") and b"data:image/" in page
    metrics = json.loads((tmp_path / "first" / "metrics.json").read_text())
    assert metrics
    weights = (tmp_path / "first" / "last").resolve()

    second = demo(tmp_path)
    assert second.returncode == 0, second.stderr
    assert "finished" in second.stdout + second.stderr
    assert (tmp_path / "first" / "last").resolve() == weights


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """The command on one core."""
    return subprocess.run(
        [sys.executable, "-m", "diptych.cli.main", "demo", "--quick", "--out", "first", "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
