"""What a trained model is made of, read from wherever it lies: config, weights and vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.checkpoint.hub import download_first
from diptych.checkpoint.keymap import PublishedWeights
from diptych.checkpoint.store import best_or_last
from diptych.data.tokenizers import SETTINGS_FILE, Tokenizer, load_tokenizer, named_tokenizer
from diptych.data.vocabulary import CLIP_FILE
from diptych.errors import UsageError, WeightsError, neighbour, unknown
from diptych.overrides import from_plain
from diptych.systems.rooms import NAMES, recipe, recipes, room, system_of
from diptych.systems.runs import read_run
from diptych.train.run import InputSettings

_HUB_NAME = re.compile(r"(hf-hub:)?([\w.-]+/[\w.-]+)")
VOCABULARIES = {
    "clip": ("vocab.json", "tokenizer.json", CLIP_FILE),
    "bert-base-cased": ("vocab.txt", "tokenizer.json"),
}
"""A tokenizer's name -> the files that hold such a one, of which one may lie with the weights."""
_FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
"""A name that ends so is of a file, and no model of the hub."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model before it is built."""

    source: str
    system: str
    config: Any
    """The room's."""
    state: Mapping[str, Tensor]
    """Heads of objectives are in it where the room has a use for them after training."""
    inputs: InputSettings
    tokenizer: Tokenizer | None
    """None of a room that reads no text."""


def read_trained(source: str | Path, config: Any = None) -> Trained:
    """Reads a run folder of ours, OpenAI's `.pt`, what open_clip or Hugging Face wrote, or a name on their hub.

    Args:
        source: file, folder or name.
        config: for published weights that do not say what model they are of: see `model_config`.
    Raises:
        UsageError: a config for a run, which has its own, or one that is unknown.
        WeightsError: it is none of these, or its tensors do not fit; nothing is guessed.
        CheckpointError: the run has no checkpoint, or it is damaged or newer than this diptych.
    """
    path = source_path(source)
    if (path / "run.json").is_file():
        if config is not None:
            raise UsageError(f"{source} is a run, whose run.json says what model it is; leave the config out")
        return _of_run(path)
    return _published(path, str(source), config)


def read_published(path: Path, config: Any = None) -> tuple[str, PublishedWeights[Any]]:
    """Weights that others published, with the system whose room reads them.

    Args:
        path: file or folder.
        config: see `model_config`.
    Raises:
        WeightsError: no room knows them, or they do not fit.
    """
    system = system_of(path)
    return system, room(system).weights.read(path, model_config(system, config))


def model_config(system: str, given: Any) -> Any:
    """The config of a model, given as itself, as the name of a recipe that has it, or as a JSON file of its fields.

    Raises:
        UsageError: there is no such recipe or file, or a field is unknown or of another type.
    """
    match given:
        case str() if given in recipes(system):
            return recipe(system, given).model
        case Path() | str() if Path(given).is_file():
            return from_plain(room(system).config, json_object(Path(given)), "model.")
        case Path() | str():
            raise UsageError(
                unknown("recipe", str(given), recipes(system)) + "; or give a JSON file of the model's settings"
            )
        case _:
            return given


def json_object(path: Path) -> dict[str, Any]:
    """A model's settings by name.

    Raises:
        UsageError: it cannot be read, or is of another form.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds {type(found).__name__}; expected an object with the model's settings")
    return found


def source_path(source: str | Path) -> Path:
    """The file or folder of that name; where there is none, the folder of the hub's model of that name.

    Raises:
        WeightsError: there is neither.
    """
    path = Path(source)
    return path if path.exists() else _from_hub(str(source))


def _of_run(folder: Path) -> Trained:
    run = read_run(folder)
    state: Mapping[str, Tensor] = best_or_last(folder).model()
    if room(run.system).heads is None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("heads.")}
    return Trained(
        source=str(folder),
        system=run.system,
        config=run.model,
        state=state,
        inputs=run.inputs,
        tokenizer=load_tokenizer(folder / "tokenizer") if room(run.system).reads_text else None,
    )


def _published(path: Path, source: str, config: Any) -> Trained:
    system, published = read_published(path, config)
    if not room(system).reads_text:
        return Trained(
            source=source,
            system=system,
            config=published.config,
            state=published.state,
            inputs=recipe(system, recipes(system)[0]).inputs,
            tokenizer=None,
        )
    of_room = room(system).weights
    tokenizer = _tokenizer_beside(path if path.is_dir() else path.parent, of_room.vocabulary)
    more = published.config.vocab_size - tokenizer.vocab_size
    if more < 0 or (more and not of_room.more_words):
        raise WeightsError(
            f"{source} has {published.config.vocab_size} words and the tokenizer found for it {tokenizer.vocab_size}; "
            f"put the model's own vocabulary ({', '.join(VOCABULARIES[of_room.vocabulary])}) beside its weights"
        )
    inputs = InputSettings(tokenizer=of_room.vocabulary, vocab_size=tokenizer.vocab_size)
    return Trained(
        source=source,
        system=system,
        config=published.config,
        state=published.state,
        inputs=inputs,
        tokenizer=tokenizer,
    )


def _tokenizer_beside(folder: Path, vocabulary: str) -> Tokenizer:
    """The vocabulary that lies with the weights, else the one that is named."""
    if (folder / "tokenizer" / SETTINGS_FILE).is_file():
        return load_tokenizer(folder / "tokenizer")
    there = any((folder / name).is_file() for name in VOCABULARIES[vocabulary])
    return named_tokenizer(vocabulary, folder if there else None)


def _from_hub(name: str) -> Path:
    """The folder of a model of the hub, from the cache or downloaded: its config, weights and vocabulary."""
    found = _HUB_NAME.fullmatch(name)
    folder = Path(name).parent
    in_a_folder = folder != Path() and folder.is_dir()  # then a run that is misspelt, and no name on the hub
    if found is None or in_a_folder or Path(name).suffix in _FILE_SUFFIXES:
        guess = neighbour(Path(name)) or "."
        raise WeightsError(
            f"there is no file or folder {name}{guess} Expected a run folder, a file of weights, a folder of open_clip "
            "or Hugging Face, or a name on the hub such as openai/clip-vit-base-patch32"
        )
    repository = found[2]
    configs = dict.fromkeys(config for system in NAMES for config in room(system).weights.hub_files)
    config = download_first(repository, tuple(configs))
    for group in room(system_of(config.parent)).weights.hub_files.get(config.name, ()):
        download_first(repository, group)
    return config.parent
