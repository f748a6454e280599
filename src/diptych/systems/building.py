"""A run's objects: its tokenizer, model, heads and inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from diptych.data.tokenizers import SETTINGS_FILE, Tokenizer, clip_tokenizer, load_tokenizer, train_tokenizer
from diptych.errors import UsageError, unknown
from diptych.systems.outside import OutsideObjective
from diptych.systems.rooms import room
from diptych.train.job import Job
from diptych.train.run import InputSettings, Run

TOKENIZERS = ("train:bpe", "train:wordpiece", "clip")


def build(run: Run, *, texts: Iterable[str] | None = None, tokenizer_folder: Path | None = None) -> Job:
    """The objects of a run; the job's run is resolved: it has the size of the vocabulary that came out.

    Equal runs and texts make equal weights, and torch's own generator is left as it was.

    Args:
        run: from a recipe, with the user's settings put in place.
        texts: of the training split, read only where the tokenizer is to be trained on them.
        tokenizer_folder: of a run that goes on; what is saved there goes before the settings.
    Raises:
        UsageError: a name is unknown, or the objective's code is not in this package.
        DataError: the vocabulary cannot be found or read.
    """
    if isinstance(run.objective, OutsideObjective):
        raise UsageError(
            f"the objective {run.objective.name!r} of this run is not part of diptych (its recipe is {run.recipe}), "
            f"and a run.json never makes code run. Name the file: diptych train PATH/{run.recipe} --data DIR --out RUN"
        )
    tokenizer = _tokenizer(run.inputs, texts, tokenizer_folder)
    run = replace(run, model=replace(run.model, vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id))
    model = new_model(run.system, run.model, run.objective, seed=run.training.seed)
    inputs = room(run.system).inputs(run.model, run.inputs, tokenizer)
    return Job(run=run, model=model, objective=run.objective, inputs=inputs)


def new_model(system: str, config: Any, objective: Any = None, *, seed: int = 0) -> nn.Module:
    """A room's model with the head of an objective, its weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = room(system).model(config)
        head = None if objective is None else objective.head(config)
        if head is not None:
            model.heads[objective.name] = head  # type: ignore[operator]
    return model


def _tokenizer(settings: InputSettings, texts: Iterable[str] | None, folder: Path | None) -> Tokenizer:
    if folder is not None and (folder / SETTINGS_FILE).is_file():
        return load_tokenizer(folder)
    match settings.tokenizer:
        case "train:bpe" | "train:wordpiece":
            if texts is None:
                raise UsageError(f"inputs.tokenizer is {settings.tokenizer}, but there are no texts to train it on")
            kind: Literal["bpe", "wordpiece"] = "bpe" if settings.tokenizer == "train:bpe" else "wordpiece"
            return train_tokenizer(texts, kind, settings.vocab_size)
        case "clip":
            return clip_tokenizer()
        case path if Path(path).exists():
            return load_tokenizer(Path(path))
        case other:
            raise UsageError(unknown("tokenizer", other, TOKENIZERS) + ", or the path of a vocabulary")
