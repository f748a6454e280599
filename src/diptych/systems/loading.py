"""A trained model from wherever it lies: a run of ours, or what OpenAI, open_clip and Hugging Face publish."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diptych.checkpoint.store import best_or_last
from diptych.clip import weights as clip_weights
from diptych.clip.layouts import huggingface, open_clip
from diptych.data.tokenizers import SETTINGS_FILE, Tokenizer, clip_tokenizer, load_tokenizer
from diptych.data.vocabulary import CLIP_FILE
from diptych.errors import CheckpointError, WeightsError
from diptych.systems.building import new_model
from diptych.systems.rooms import room
from diptych.systems.runs import read_run
from diptych.tasks.encoder import DualEncoder
from diptych.train.device import resolve_device
from diptych.train.run import InputSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

_HUB_NAME = re.compile(r"(hf-hub:)?([\w.-]+/[\w.-]+)")


def load(source: str | Path, device: str = "auto") -> DualEncoder:
    """A trained model that knows its tokenizer and its picture transform.

    Args:
        source: a run folder (its best checkpoint, else the last; averaged weights where the run has them), OpenAI's
            `.pt`, a folder or file of open_clip, a folder of Hugging Face's `CLIPModel`, or a name on their hub.
        device: see `resolve_device`.
    Raises:
        WeightsError: it is none of these, or its tensors do not fit; nothing is guessed.
        CheckpointError: the run has no checkpoint, or it is damaged or newer than this diptych.
    """
    where = resolve_device(device)
    path = Path(source)
    if (path / "run.json").is_file():
        model, inputs = _from_run(path)
    else:
        model, inputs = _published(path if path.exists() else _from_hub(str(source)))
    return DualEncoder(model, inputs, where, str(source))


def _from_run(folder: Path) -> tuple[Any, Any]:
    run = read_run(folder)
    checkpoint = best_or_last(folder)
    model = new_model(run.system, run.model)
    _put(model, checkpoint.model(), str(checkpoint.folder))
    return model, room(run.system).inputs(run.model, run.inputs, load_tokenizer(folder / "tokenizer"))


def _published(source: Path) -> tuple[Any, Any]:
    published = clip_weights.read_weights(source)
    model = new_model("clip", published.config)
    _put(model, published.state, str(source))
    tokenizer = _tokenizer_beside(source if source.is_dir() else source.parent)
    if tokenizer.vocab_size != published.config.vocab_size:
        raise WeightsError(
            f"{source} has {published.config.vocab_size} words and the tokenizer found for it {tokenizer.vocab_size}; "
            "put the model's own vocabulary (vocab.json and merges.txt, or tokenizer.json) beside its weights"
        )
    return model, room("clip").inputs(published.config, InputSettings(tokenizer="clip"), tokenizer)


def _put(model: Any, state: Mapping[str, Tensor], source: str) -> None:
    """Loads the towers strictly; the heads of objectives are for training alone."""
    towers = {name: tensor for name, tensor in state.items() if not name.startswith("heads.")}
    try:
        model.load_state_dict(towers)
    except RuntimeError as error:
        raise CheckpointError(f"the weights of {source} do not fit the model of its settings: {error}") from error


def _tokenizer_beside(folder: Path) -> Tokenizer:
    """The vocabulary that lies with the weights, else CLIP's."""
    if (folder / "tokenizer" / SETTINGS_FILE).is_file():
        return load_tokenizer(folder / "tokenizer")
    names = ("vocab.json", "tokenizer.json", CLIP_FILE)
    return clip_tokenizer(folder if any((folder / name).is_file() for name in names) else None)


def _from_hub(name: str) -> Path:
    """The folder of a model of the hub, from the cache or downloaded: its config, weights and vocabulary."""
    found = _HUB_NAME.fullmatch(name)
    if found is None or Path(name).suffix in clip_weights.SUFFIXES:
        raise WeightsError(
            f"there is no file or folder {name}; expected a run folder, a file of weights, a folder of open_clip or "
            "Hugging Face, or a name on the hub such as openai/clip-vit-base-patch32"
        )
    repository = found[2]
    config = _download_first(repository, (open_clip.CONFIG_FILE, huggingface.CONFIG_FILE))
    if config.name == open_clip.CONFIG_FILE:
        _download_first(repository, open_clip.WEIGHT_FILES)
    else:
        _download_first(repository, huggingface.WEIGHT_FILES)
        _download_first(repository, (huggingface.PREPROCESSOR_FILE, huggingface.PROCESSOR_FILE))
        _download_first(repository, ("merges.txt",))
        _download_first(repository, ("vocab.json",))
    return config.parent


def _download_first(repository: str, names: Sequence[str]) -> Path:
    """The first of these files that the repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    reason: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError as error:  # also where it is not in the cache and there is no network
            reason = error
        except (OSError, ValueError, HfHubHTTPError) as error:
            reason = error
            break
    raise WeightsError(
        f"{repository} is no file or folder here, and {' or '.join(names)} of it could be had neither from the hub's "
        f"cache nor from the hub ({type(reason).__name__}). Check the name and the network, or download the model "
        "and pass its folder"
    ) from reason
