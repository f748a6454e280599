"""What came of a config file of others: a run, and word of every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diptych.train.run import Run


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A run made of somebody's config file."""

    run: Run
    taken: Mapping[str, str]
    """Field -> the setting that it became, with its value."""
    left_out: Mapping[str, str]
    """Field that has no use here -> why."""
    unknown: tuple[str, ...]
    """Fields that nobody knows, which are not taken over."""
    by_recipe: Mapping[str, str]
    """Field that such files have and this one has not -> the setting, as our own recipe has it."""
    recipe: str
    """That recipe."""
    begins_with: str
    """Whose weights, for people."""
    gpus: int
    """That a step of it is of."""
