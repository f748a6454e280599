"""Every benchmark runs with --quick, prints its ratios and writes what it measured with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
HELPERS = ("harness.py", "pretraining_runs.py", "samples.py", "scenes_of_boxes.py", "uniter_plain.py")
NEEDS_DATA = ("flickr8k.py",)
OWN_TEST = ("memory.py",)
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if path.name not in (*HELPERS, *NEEDS_DATA, *OWN_TEST))


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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is Linux's to tell")
def test_a_step_takes_the_memory_that_is_computed(tmp_path):
    """Within 10 %, at two micro-batches: of a hundred megabytes, and of as many more."""
    numbers = tmp_path / "numbers.json"
    command = [sys.executable, BENCHMARKS / "memory.py", "--quick", "--threads", "1", "--json", numbers]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = json.loads(numbers.read_text())["steps"]
    for step in (few, many):
        assert step["measured"] == pytest.approx(step["computed"], rel=0.1)
    assert many["measured"] - few["measured"] == pytest.approx(many["computed"] - few["computed"], rel=0.1)


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


def test_an_accuracy_is_reached_between_two_points_by_a_straight_line_over_log_pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from efficiency import mean, reached, spaced

    curve = mean([[(100, 0.0), (200, 0.2), (800, 0.7)], [(100, 0.2), (200, 0.4), (800, 0.9)]])
    assert curve == [(100, 0.1), (200, pytest.approx(0.3)), (800, pytest.approx(0.8))]
    assert reached(curve, 0.55) == pytest.approx(400)  # half of the way between 200 and 800
    assert (reached(curve, 0.05), reached(curve, 0.9)) == (100, None)
    assert spaced([0, 10, 20, 30, 40, 50, 60]) == [10, 20, 30, 40, 50, 60]
    assert spaced([90, 100, 110, 120]) == [100, 120]
