"""A recipe for a task, with the network that trained weights are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diptych.errors import UsageError, unknown
from diptych.systems.rooms import recipe, recipes
from diptych.systems.runs import read_run
from diptych.systems.trained import read_trained
from diptych.train.run import Run

KEPT = ("dropout", "attention_dropout", "answers")
"""Settings of a model that the recipe goes by, and not the weights."""
TASKS = ("vqa", "ve", "nlvr2", "vcr", "re", "ranking", "hard_ranking")
"""Objectives of fine-tuning."""


def finetuned(weights: str | Path, name: str) -> Run:
    """The run of a recipe whose network has the sizes, inputs and vocabulary of trained weights.

    Args:
        weights: as `load` takes them; `build` is to be given them too, as what the run begins with.
        name: of a recipe of their system; or a run.json, whose `max_regions` counts too.
    Raises:
        UsageError: the system has no such recipe for a task, or none at all.
        WeightsError: `weights` hold no model.
        CheckpointError: the run has no checkpoint, or it is damaged.
    """
    file = Path(name) if Path(name).suffix == ".json" else None
    run = None if file is None else read_run(file)
    trained = read_trained(weights)
    tasks = [one for one in recipes(trained.system) if recipe(trained.system, one).objective.name in TASKS]
    if not tasks:
        raise UsageError(
            f"{weights} is a {trained.system}, which is trained further by: diptych train {trained.system} RECIPE "
            f"--init {weights}; fine-tuned for a task are models that read text and regions at once"
        )
    if run is None:
        if name not in tasks:
            raise UsageError(unknown("recipe for a task", name, tasks))
        run = recipe(trained.system, name)
    elif (run.system, run.objective.name in TASKS) != (trained.system, True):
        raise UsageError(
            f"{name} trains a {run.system} for {run.objective.name}; expected a {trained.system}, as {weights} is, for "
            f"one of: {', '.join(TASKS)}"
        )
    kept = KEPT if file is None else (*KEPT, "max_regions")
    taken = {setting: getattr(run.model, setting) for setting in kept}
    context = min(max(run.model.context, trained.config.context), trained.config.positions)
    types = max(run.model.types, trained.config.types)
    inputs = replace(trained.inputs, text_kinds=run.inputs.text_kinds)
    return replace(run, model=replace(trained.config, context=context, types=types, **taken), inputs=inputs)
