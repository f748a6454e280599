"""Every benchmark runs with --quick, prints its ratios and writes what it measured with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
NEEDS_DATA = ("flickr8k.py",)
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if path.name not in ("harness.py", *NEEDS_DATA))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_quick_runs_and_names_the_machine(script, tmp_path):
    pytest.importorskip("open_clip", reason="the peer is a development dependency")
    numbers = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--quick", "--json", numbers],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(numbers.read_text())
    assert {"cpu", "threads"} <= set(found["machine"])
    assert found["versions"]["torch"] in done.stdout
    assert " x" in done.stdout


def test_the_ratio_is_the_median_of_the_rounds_own():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from harness import median_ratio, take_turns
    finally:
        sys.path.remove(str(BENCHMARKS))
    assert median_ratio({"a": [2.0, 30.0, 8.0], "b": [1.0, 10.0, 1.0]}, "a", "b") == 3.0
    turns = []
    ways = {name: lambda name=name: turns.append(name) or 1 for name in "abc"}
    rates = take_turns(ways, rounds=3)
    assert {name: len(values) for name, values in rates.items()} == {"a": 3, "b": 3, "c": 3}
    assert {turns[3 * number] for number in range(1, 4)} == {"a", "b", "c"}  # every round begins with another
