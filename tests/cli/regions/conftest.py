"""What the tests of `diptych regions` share: a table of scenes, and its verbs run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from diptych.data.scenes import draw_scenes, easy

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(spoken: Command) -> Command:
    """`spoken` of a verb of `diptych regions`."""
    return partial(spoken, "regions")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    draw_scenes(folder, easy(num=30, size_px=48), workers=1)
    return folder
