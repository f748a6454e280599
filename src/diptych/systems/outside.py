"""Recipes and objectives from outside the package: `path/mine.py:run` on a command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.errors import UsageError, nearest
from diptych.systems.rooms import OBJECTIVES, objective_class
from diptych.train.run import Run

_CONTRACT = ("name", "couples_rows", "chance_loss", "columns", "heads", "partners", "draw", "counts", "loss")


@dataclass(frozen=True, kw_only=True)
class OutsideObjective:
    """What `run.json` says of an objective whose code is not in this package: enough to load, not to train."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def refuse_outside(run: Run) -> None:
    """Raises UsageError where a run.json names an objective whose code is not here."""
    if isinstance(run.objective, OutsideObjective):
        raise UsageError(
            f"the objective {run.objective.name!r} of this run is not part of diptych (its recipe is {run.recipe}), "
            f"and a run.json never makes code run. Name the file: diptych train PATH/{run.recipe} --data DIR --out RUN"
        )


def outside_recipe(spec: str) -> Run:
    """Imports the file and calls its function.

    The file's folder is added to `sys.path`, so that the loader's workers find the objective where they are spawned.

    Args:
        spec: "path/mine.py:run", where `run` takes nothing and returns a Run.
    Raises:
        UsageError: no such file or function, it fails, or what it returns is no Run whose objective meets the contract.
    """
    path, _, function = spec.rpartition(":")
    if not path:
        raise UsageError(f"{spec!r} does not say which function makes the run; write {spec}:run")
    made = _called(_imported(Path(path)), function, spec)
    if not isinstance(made, Run):
        raise UsageError(f"{spec} returned {type(made).__name__}; expected a diptych.train.run.Run")
    _check_objective(made.objective, spec)
    return replace(made, recipe=f"{Path(path).name}:{function}")


def _imported(file: Path) -> ModuleType:
    if not file.is_file():
        raise UsageError(f"there is no file {file}; expected path/mine.py:run with the path of a recipe of yours")
    folder, name = str(file.resolve().parent), file.stem
    if not name.isidentifier():
        raise UsageError(f"{file.name} cannot be imported; name it with letters, digits and underscores")
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"{file} failed when it was imported: {type(error).__name__}: {error}") from error
    where = getattr(module, "__file__", None)
    if where is None or Path(where).resolve() != file.resolve():
        raise UsageError(f"{file.name} has the name of another module ({where or 'built in'}); rename the file")
    return module


def _called(module: ModuleType, function: str, spec: str) -> Any:
    functions = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    if function not in functions:
        guess = nearest(function, functions)
        hint = f"; did you mean {guess!r}?" if guess is not None else ""
        raise UsageError(f"{module.__file__} has no function {function!r}{hint}")
    try:
        return functions[function]()
    except Exception as error:
        raise UsageError(f"{spec} failed: {type(error).__name__}: {error}") from error


def _check_objective(objective: Any, spec: str) -> None:
    missing = [name for name in _CONTRACT if not hasattr(objective, name)]
    if missing:
        raise UsageError(
            f"the objective of {spec}, {type(objective).__name__}, lacks {', '.join(missing)}; expected what "
            "diptych.objectives.objective.Objective describes"
        )
    if objective.name in OBJECTIVES and type(objective) is not objective_class(objective.name):
        raise UsageError(f"the objective of {spec} is named {objective.name!r}, as one of diptych's; name it otherwise")
    if not is_dataclass(objective):
        raise UsageError(f"the objective of {spec}, {type(objective).__name__}, is no dataclass; run.json needs fields")
