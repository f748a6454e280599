"""Pictures of one colour with texts, and the recipe that trains on them in two steps."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from diptych import systems
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.overrides import apply_overrides
from diptych.train.run import Run

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
TEXTS = [f"a {colour} square on a {ground} ground" for colour in COLOURS for ground in ("dark", "light")]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """A text of each picture of the table's splits."""
    return TEXTS


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Run]:
    """The recipe `tiny` with still fewer words and rows, for two steps, and with the given settings."""
    return tiny_run


def tiny_run(*settings: str) -> Run:
    few = ("inputs.vocab_size=540", "training.steps=2", "training.batch=4", "training.eval_rows=4", "inputs.workers=0")
    return apply_overrides(systems.recipe("clip", "tiny"), [*few, *settings])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("systems") / "table"
    with TableWriter(folder) as writer:
        for split in ("train", "validation"):
            for number, text in enumerate(TEXTS):
                file = io.BytesIO()
                Image.new("RGB", (40, 36), COLOURS[text.split()[1]]).save(file, "PNG")
                writer.add(split, key=f"{split}-{number}", image=file.getvalue(), texts=[text])
    return open_table(folder)


@pytest.fixture
def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (50, 40 + place), colour) for place, colour in enumerate(COLOURS.values())]
