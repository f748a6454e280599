"""A run's objects: its tokenizer, model, heads and inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from diptych.data.table import Rows, check_pictures
from diptych.data.tokenizers import (
    NAMED,
    SETTINGS_FILE,
    Tokenizer,
    load_tokenizer,
    named_tokenizer,
    train_tokenizer,
)
from diptych.errors import UsageError, WeightsError, unknown
from diptych.overrides import to_plain
from diptych.progress import SILENT, Bar, Progress
from diptych.systems.costing import cost_of
from diptych.systems.models import new_model
from diptych.systems.outside import refuse_outside
from diptych.systems.rooms import room
from diptych.systems.trained import Trained, read_trained
from diptych.train.job import SCRATCH, Job
from diptych.train.run import InputSettings, Run

FREE = ("temperature", "max_scale", "init_std")
"""Settings of a model that do not change what its weights mean."""
TEXTS_A_TURN = 1000
"""Texts between two turns of the bar."""
TOKENIZERS = ("train:bpe", "train:wordpiece", *NAMED)


def build(
    run: Run,
    *,
    texts: Iterable[str] | None = None,
    rows: Rows | None = None,
    tokenizer_folder: Path | None = None,
    init: str | Path | None = None,
    progress: Progress = SILENT,
) -> Job:
    """The objects of a run; the job's run is resolved: it has the size of the vocabulary that came out.

    Equal runs and texts make equal weights, and torch's own generator is left as it was.

    Args:
        run: from a recipe, with the user's settings put in place.
        texts: of the training split, read only where the tokenizer is to be trained on them.
        rows: of the training split; rooms that read pictures want some there, and some models depend on them (a
            detector's classes).
        tokenizer_folder: of a run that goes on; what is saved there goes before the settings.
        init: weights to begin with, as `load` takes them; their vocabulary goes before the settings too. Position
            embeddings are resized where `model.image_size` differs.
        progress: where the training of a tokenizer is drawn.
    Raises:
        UsageError: a name is unknown, or the objective's code is not in this package.
        WeightsError: `init` is of a model with other settings.
        DataError: the vocabulary cannot be found or read, or the rows have not what the room reads.
    """
    refuse_outside(run)
    trained = None if init is None else read_trained(init)
    of_room = room(run.system)
    if trained is not None and trained.system != run.system:
        raise WeightsError(
            f"{trained.source} is a {trained.system}, and the model to be trained is a {run.system}; begin from a run "
            f"of {run.system}, or {of_room.weights.expected}"
        )
    if rows is not None and of_room.reads_pictures:
        for part in rows.parts:
            check_pictures(part)
    if rows is not None and of_room.told is not None:  # before a tokenizer is trained for nothing
        run = replace(run, model=of_room.told(run.model, rows, progress.say))
    tokenizer = None
    if of_room.reads_text:
        tokenizer = None if trained is None else trained.tokenizer
        if tokenizer is None:
            tokenizer = _tokenizer(run.inputs, texts, tokenizer_folder, progress)
        num_words = tokenizer.vocab_size
        if trained is not None and of_room.weights.more_words:
            num_words = max(num_words, trained.config.vocab_size)
        run = replace(run, model=replace(run.model, vocab_size=num_words, end_id=tokenizer.end_id))
    model = new_model(run.system, run.model, run.objective, seed=run.training.seed)
    if trained is not None:
        _begin_with(model, run, trained, progress)
    return Job(
        run=run,
        model=model,
        objective=run.objective,
        inputs=of_room.inputs(run.model, run.inputs, tokenizer),
        origin=SCRATCH if trained is None else trained.source,
        cost=None if of_room.blank is None else cost_of,
    )


def _begin_with(model: nn.Module, run: Run, trained: Trained, progress: Progress) -> None:
    """Puts trained weights into the model; heads that they have not, and what does not fit, stay as drawn."""
    state, config, fresh = room(run.system).weights.fitted(trained.state, trained.config, run.model)
    theirs, ours = to_plain(config), to_plain(run.model)
    differing = [name for name in ours if name not in FREE and theirs.get(name) != ours[name]]
    if differing:
        told = "".join(f"\n  model.{name}: {theirs.get(name)!r} there, {ours[name]!r} here" for name in differing)
        raise WeightsError(
            f"the weights of {trained.source} are of a {trained.system} model with other settings:{told}\n"
            "Choose the recipe they were trained by, or change these with --set"
        )
    doubts = room(run.system).doubts
    if doubts is not None and not fresh and (open_ := doubts(trained.config, run.model)):
        progress.say(open_)
    own = model.state_dict()
    drawn = {name: own[name] for name in own if name.startswith((*fresh, "heads.")) and name not in state}
    unused = {name for name in state if name.startswith("heads.") and name not in own}
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in unused} | drawn)


def _tokenizer(
    settings: InputSettings, texts: Iterable[str] | None, folder: Path | None, progress: Progress
) -> Tokenizer:
    if folder is not None and (folder / SETTINGS_FILE).is_file():
        return load_tokenizer(folder)
    match settings.tokenizer:
        case "train:bpe" | "train:wordpiece":
            if texts is None:
                raise UsageError(f"inputs.tokenizer is {settings.tokenizer}, but there are no texts to train it on")
            kind: Literal["bpe", "wordpiece"] = "bpe" if settings.tokenizer == "train:bpe" else "wordpiece"
            with progress.bar("training the tokenizer", total=None, unit="texts") as bar:
                return train_tokenizer(_counted(texts, bar), kind, settings.vocab_size)
        case name if name in NAMED:
            return named_tokenizer(name)
        case path if Path(path).exists():
            return load_tokenizer(Path(path))
        case other:
            raise UsageError(unknown("tokenizer", other, TOKENIZERS) + ", or the path of a vocabulary")


def _counted(texts: Iterable[str], bar: Bar) -> Iterator[str]:
    """The texts, told to the bar in batches; then the merges are counted, while the bar stands."""
    num = 0
    for num, text in enumerate(texts, start=1):
        yield text
        if num % TEXTS_A_TURN == 0:
            bar.advance(TEXTS_A_TURN)
    bar.advance(num % TEXTS_A_TURN, "counting pairs")
