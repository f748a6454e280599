"""`diptych demo --quick`, as a newcomer runs it: once, and once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.data.region_store import open_region_table


@pytest.mark.slow
def test_the_quick_demo_shows_every_part_and_is_then_finished(tmp_path: Path) -> None:
    first = demo(tmp_path, "--out", "first")
    assert first.returncode == 0, first.stderr
    assert "Report: first/report.html" in first.stdout and "\nNext: diptych " in first.stdout
    page = (tmp_path / "first" / "report.html").read_bytes()
    assert page.startswith(b"<!") and b"data:image/" in page
    metrics = json.loads((tmp_path / "first" / "metrics.json").read_text())
    assert metrics
    weights = (tmp_path / "first" / "last").resolve()

    second = demo(tmp_path, "--out", "first")
    assert second.returncode == 0, second.stderr
    assert "finished" in second.stdout + second.stderr
    assert (tmp_path / "first" / "last").resolve() == weights


@pytest.mark.slow
def test_the_demo_of_regions_keeps_what_is_there_and_later_commands_find_it(tmp_path: Path) -> None:
    first = demo(tmp_path, "regions", "--out", "runs/demo")
    assert first.returncode == 0, first.stderr
    assert "average precision at IoU 0.50" in first.stdout
    assert "\nNext: python3 -m webbrowser file://" in first.stdout
    assert (
        "\nNext: diptych evaluate runs/demo/detector --task detection --data runs/demo/scenes --split unseen_pairs"
        in first.stdout
    )
    store = open_region_table(tmp_path / "runs" / "demo" / "regions")
    assert len(store) == 2000 and store.spec.feature_width == 32 and "red" in store.spec.attributes
    assert (tmp_path / "runs" / "demo" / "regions.html").read_text().count("<svg viewBox") == 24

    second = demo(tmp_path, "regions", "--out", "runs/demo")
    assert second.returncode == 0, second.stderr
    assert "finished" in second.stdout + second.stderr and "extracting" not in second.stderr
    assert open_region_table(tmp_path / "runs" / "demo" / "regions").fingerprint == store.fingerprint

    asked = diptych(tmp_path, "regions", "extract", "runs/demo/scenes", "--out", "r")
    assert asked.returncode == 2
    assert "diptych regions extract runs/demo/scenes --detector own:runs/demo/detector --out r" in asked.stderr


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The short form on one core."""
    return diptych(folder, "demo", *words, "--quick", "--device", "cpu")


def diptych(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diptych.cli.main", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
