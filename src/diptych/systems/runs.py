"""run.json read back: names to types, every field checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import CheckpointError, UsageError
from diptych.overrides import from_plain
from diptych.systems.outside import OutsideObjective
from diptych.systems.rooms import OBJECTIVES, objective_class, room
from diptych.train.run import FORMAT, InputSettings, OptimSettings, Run, TrainingSettings


def read_run(path: Path) -> Run:
    """The run in a `run.json`, or in the run folder that holds one.

    An objective from outside the package is described, not imported: see `OutsideObjective`. The origin of its first
    weights is no setting, and left out.

    Raises:
        CheckpointError: a newer diptych wrote it, or it is damaged.
        UsageError: there is no such file, or a setting in it is unknown or of another type.
    """
    file = path / "run.json" if path.is_dir() else path
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no {file}; expected the run.json of a run, or its folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from error
    try:
        return run_from_plain(plain)
    except (UsageError, CheckpointError) as error:
        raise type(error)(f"{file}: {error}") from error


def run_from_plain(plain: Mapping[str, Any]) -> Run:
    """The run of what `train.run.plain_run` made of it; groups that are left out take their defaults.

    Raises:
        CheckpointError: a newer format.
        UsageError: a setting is unknown, missing or of another type.
    """
    known = ("format", "system", "recipe", "model", "objective", "inputs", "optim", "training", "origin")
    if not isinstance(plain, Mapping) or not {"format", "system", "model", "objective"} <= plain.keys():
        raise UsageError(f"this is no run of diptych; expected an object with {', '.join(known)}")
    if not isinstance(plain["format"], int) or plain["format"] > FORMAT:
        raise CheckpointError(f"it has format {plain['format']}; this diptych reads up to {FORMAT}. Update diptych")
    rest = {name: value for name, value in plain.items() if name not in known}
    if rest:
        raise UsageError(f"unknown settings: {', '.join(rest)}; expected {', '.join(known)}")
    return Run(
        system=plain["system"],
        recipe=plain.get("recipe", ""),
        model=from_plain(room(plain["system"]).config, plain["model"], "model."),
        objective=_objective(plain["objective"]),
        inputs=from_plain(InputSettings, plain.get("inputs", {}), "inputs."),
        optim=from_plain(OptimSettings, plain.get("optim", {}), "optim."),
        training=from_plain(TrainingSettings, plain.get("training", {}), "training."),
    )


def _objective(plain: Mapping[str, Any]) -> Any:
    settings = {name: value for name, value in plain.items() if name != "name"}
    if plain["name"] not in OBJECTIVES:
        return OutsideObjective(name=plain["name"], settings=settings)
    return from_plain(objective_class(plain["name"]), settings, "objective.")
