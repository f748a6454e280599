"""A run of the small room that nothing disturbed, and what makes two runs the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch.testing import assert_close

from diptych.checkpoint.store import CheckpointStore
from diptych.data.table import Table
from diptych.train.fit import fit

CLOCK = {"time_s", "samples_per_s", "tokens_per_s", "loader_share", "mfu", "product_rate"}


@pytest.fixture(scope="module")
def whole(small_room: ModuleType, small_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    fit(small_room.small_job(), small_table, out, device="cpu")
    return out


@pytest.fixture(scope="session")
def assert_same_run(small_room: ModuleType) -> Callable[[Path, Path], None]:
    def assert_same_run(out: Path, expected: Path) -> None:
        """Bit for bit: weights, optimizer, state, and what was logged of every step."""
        ours, theirs = CheckpointStore(out).latest(), CheckpointStore(expected).latest()
        assert ours is not None and theirs is not None and ours.step == theirs.step
        assert_close(ours.model(), theirs.model(), rtol=0, atol=0)
        assert_close(ours.optimizer(), theirs.optimizer(), rtol=0, atol=0)
        for name in ("bad_rows", "best_step", "best_metrics", "last_metrics", "evaluated"):
            assert ours.state[name] == theirs.state[name]
        names = ("start", "step", "eval", "reject")
        assert without_clock(small_room.events(out, *names)) == without_clock(small_room.events(expected, *names))
        for file in ("best", "last", "run.json"):
            assert (out / file).read_bytes() == (expected / file).read_bytes()

    return assert_same_run


def without_clock(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]
