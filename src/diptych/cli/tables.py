"""What a command is asked about: a table with its regions, and which split of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.data.table import Table


def with_regions(table: Table, stores: Sequence[Path]) -> Table:
    """The table joined with stores of regions, ours or old files; as it is where there are none.

    What is amiss with the files is said.

    Raises:
        DataError: a store cannot be read, or two were not made alike.
    """
    if not stores:
        return table
    from diptych.cli.regions_files import opened
    from diptych.data.region_join import region_columns

    return table.joined(region_columns([opened(one) for one in stores]))


def split_to_evaluate(splits: Mapping[str, int], trained_on: str) -> str:
    """The split that a model is best judged by: test, else validation, else the one it was trained on."""
    return next((name for name in ("test", "validation") if splits.get(name)), trained_on)
