"""Where a run stands besides its weights: what state.json of a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from diptych.data.table import Table
from diptych.train.job import SCRATCH

ADVICE = "Pass the --data that it was begun with, several in the same order, or choose another --out."


@dataclass(kw_only=True)
class TrainState:
    """Changed by the loop, step by step; a run that goes on begins with the one of its checkpoint."""

    step: int = 0
    """Optimizer steps made, those that were skipped included."""
    time_s: float = 0.0
    log_bytes: int = 0
    """Size of log.jsonl when the checkpoint was written."""
    table: str = ""
    """Fingerprint of the table; of several those of all, joined by "+"."""
    partners: str | None = None
    """Fingerprint of the store that names partners of its rows; "": none; None: an older checkpoint does not say."""
    precision: str = "float32"
    """What "auto" came to, so that the same is used on going on."""
    origin: str = SCRATCH
    """Where the weights came from before the first step."""
    evaluated: int = -1
    """The last step whose evaluation is in the log."""
    best_step: int | None = None
    best_score: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    skipped_in_a_row: int = 0
    """Steps left out since the last good one, under `--on-nan skip`."""
    bad_rows: list[int] = field(default_factory=list)
    """Rows of the training split that could not be read, in the order they were met."""
    bad_eval_keys: list[str] = field(default_factory=list)
    """Rows of the split to evaluate on that could not be read, so that each is told once."""
    loss_scale: dict[str, Any] = field(default_factory=dict)
    """Of fp16's gradient scaler; empty in other precisions."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> TrainState:
        """What `plain` gave; names of other owners are left out."""
        return TrainState(**{one.name: plain[one.name] for one in fields(TrainState) if one.name in plain})


def other_data(began: str, table: Table) -> str:
    """What is said of a run that goes on with another table, or other ones, than those of the fingerprint `began`."""
    there, parts = began.split("+"), table.parts
    if len(there) != len(parts):
        return f"the run was begun on {_tables(len(there))}, found {_tables(len(parts))}. {ADVICE}"
    place = next(place for place, part in enumerate(parts) if part.fingerprint != there[place])
    which = "a table" if len(there) == 1 else f"{_tables(len(there))}, number {place + 1} of them"
    found = f"{parts[place].path} has {parts[place].fingerprint}"
    return f"the run was begun on {which} with fingerprint {there[place]}, and {found}. {ADVICE}"


def other_partners(began: str, now: str) -> str:
    """What is said of a run that goes on with other partners than those of the fingerprint `began`; "" for none."""
    if not began:
        return "the run goes without partners of its rows. Leave out --partners, or choose another --out."
    given = f"those that are given have {now}" if now else "none are given"
    return (
        f"the run goes with partners of fingerprint {began}, and {given}. Pass the --partners of that fingerprint, or "
        "choose another --out."
    )


def _tables(num: int) -> str:
    return "one table" if num == 1 else f"{num} tables"
