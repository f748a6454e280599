"""The small room, whose runs are disturbed here, and a table for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych.data.table import Table, open_table

ROOM = Path(__file__).parent.parent / "train" / "small_room.py"


@pytest.fixture(scope="session")
def small_room() -> ModuleType:
    """A file in a folder that is no package, so it cannot be imported by name."""
    name = "diptych_small_room"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOM)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def small_table(small_room: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Table:
    return open_table(small_room.write_table(tmp_path_factory.mktemp("small") / "table"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bit for bit holds for one number of threads."""
    torch.set_num_threads(1)
