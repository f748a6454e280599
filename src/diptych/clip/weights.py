"""CLIP's published weights: read under our names and written under theirs, strictly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.checkpoint.files import write_whole
from diptych.checkpoint.foreign import is_torchscript, read_tensors, read_torchscript, write_tensors
from diptych.checkpoint.keymap import PublishedWeights, without_prefixes
from diptych.clip.layouts import huggingface, open_clip, openai
from diptych.clip.layouts.layout import read_json
from diptych.clip.model import CLIP, ClipConfig
from diptych.errors import WeightsError
from diptych.nn.unfilled import unfilled

Layout = Literal["openai", "open_clip", "huggingface"]
LAYOUTS = ("openai", "open_clip", "huggingface")
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
EXPECTED = (
    f"OpenAI's .pt, a folder with {open_clip.CONFIG_FILE} or Hugging Face's {huggingface.CONFIG_FILE} of model_type "
    f"'clip', or a file of weights ({', '.join(SUFFIXES)})"
)
HUB_FILES = {
    open_clip.CONFIG_FILE: (open_clip.WEIGHT_FILES,),
    huggingface.CONFIG_FILE: (
        huggingface.WEIGHT_FILES,
        (huggingface.PREPROCESSOR_FILE, huggingface.PROCESSOR_FILE),
        ("merges.txt",),
        ("vocab.json",),
    ),
}
"""The file that says the config -> groups of files on the hub, of each the first that is there is needed."""


def identify(source: Path) -> Layout | None:
    """Whose layout a file or folder has, by its names and its first bytes alone; None for none of CLIP's."""
    if source.is_file():
        if source.suffix not in SUFFIXES:
            return None
        return "openai" if is_torchscript(source) else "open_clip"
    if (source / open_clip.CONFIG_FILE).exists() or _first(source, open_clip.WEIGHT_FILES) is not None:
        return "open_clip"
    if (source / huggingface.CONFIG_FILE).exists():
        return "huggingface" if read_json(source / huggingface.CONFIG_FILE).get("model_type") == "clip" else None
    return None


def read_weights(source: Path, config: ClipConfig | None = None) -> PublishedWeights[ClipConfig]:
    """OpenAI's archive, open_clip's folder or file, or Hugging Face's folder.

    Args:
        source: the file or folder.
        config: the model's sizes, activation and preprocessing, where the source does not say them; goes before what
            the source says.
    Raises:
        WeightsError: the source is of no known layout, is damaged, does not say what model it holds or does not fit it.
    """
    layout = identify(source)
    match layout:
        case "openai":
            theirs = read_torchscript(source)
            config = openai.infer_config(theirs, str(source)) if config is None else config
            keys = openai.KEYS
        case "open_clip":
            theirs = without_prefixes(read_tensors(_weights_of(source, open_clip.WEIGHT_FILES)), open_clip.PREFIXES)
            config = _open_clip_config(source) if config is None else config
            keys = open_clip.key_map(theirs)
        case "huggingface":
            theirs = read_tensors(_weights_of(source, huggingface.WEIGHT_FILES))
            config = huggingface.read_config(source) if config is None else config
            keys = huggingface.KEYS
        case None:
            raise WeightsError(f"{source} holds no CLIP weights that are known here; expected {EXPECTED}")
    state = {name: _in_float32(tensor) for name, tensor in keys.to_ours(theirs, _shapes(config), str(source)).items()}
    return PublishedWeights(layout, config, state, keys.ignored(theirs))


def write_weights(folder: Path, config: ClipConfig, state: Mapping[str, Tensor], layout: Layout) -> None:
    """Writes a folder that open_clip (`local-dir:FOLDER`) or transformers (`CLIPModel.from_pretrained`) loads.

    Heads of other objectives are left out, and the temperature is written as it is used, within its bound.

    Raises:
        WeightsError: the layout cannot hold such a model, or is OpenAI's, which is code and is only read.
    """
    match layout:
        case "open_clip":
            keys, weights_file = open_clip.KEYS, open_clip.WEIGHT_FILES[0]
            configs = {open_clip.CONFIG_FILE: open_clip.write_config(config)}
        case "huggingface":
            keys, weights_file = huggingface.KEYS, huggingface.WEIGHT_FILES[0]
            configs = huggingface.write_configs(config)
        case _:
            raise WeightsError(f"weights cannot be written as {layout!r}; there are: open_clip, huggingface")
    towers = {name: tensor for name, tensor in state.items() if not name.startswith("heads.")}
    towers["logit_scale"] = towers["logit_scale"].clamp(max=math.log(config.max_scale))
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / weights_file, keys.to_theirs(towers))
    for name, settings in configs.items():
        write_whole(folder / name, json.dumps(settings, indent=2) + "\n")


def fitted(
    state: Mapping[str, Tensor], config: ClipConfig, wanted: ClipConfig
) -> tuple[Mapping[str, Tensor], ClipConfig, tuple[str, ...]]:
    """Weights for pictures of the size that is wanted; of the names of tensors, none is to be drawn anew."""
    if config.image_size == wanted.image_size:
        return state, config, ()
    return (*resize_positions(state, config, wanted.image_size), ())


def resize_positions(
    state: Mapping[str, Tensor], config: ClipConfig, image_size: int
) -> tuple[dict[str, Tensor], ClipConfig]:
    """A picture tower for pictures of another size: the grid of position embeddings is resized, its first row kept.

    CLIP, arXiv:2103.00020, section 2.5 (L/14@336px); bicubic and antialiased, as open_clip does it.

    Args:
        state: of `config`.
        config: of the model as it is.
        image_size: pixels of the new pictures' sides.
    Returns:
        The state and the config for that size.
    Raises:
        WeightsError: the tower is neither a vit nor a resnet.
    """
    match config.image:
        case "vit":
            name, cell = "visual.positional_embedding", config.patch_size
        case "resnet":
            name, cell = "visual.attnpool.positional_embedding", 32
        case _:
            raise WeightsError(f"a picture tower of kind {config.image!r} has no grid of positions to resize")
    if image_size % cell:
        raise WeightsError(f"pictures of {image_size} pixels cannot be cut into cells of {cell}; choose a multiple")
    first, grid = state[name][:1], state[name][1:]  # (1, D), (side², D)
    side = math.isqrt(len(grid))
    maps = grid.mT.unflatten(1, (side, side))[None]  # (1, D, side, side)
    new_side = image_size // cell
    maps = F.interpolate(maps, size=(new_side, new_side), mode="bicubic", antialias=True, align_corners=False)
    resized = torch.cat([first, maps[0].flatten(1).mT])
    return {**state, name: resized}, replace(config, image_size=image_size)


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _shapes(config: ClipConfig) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in unfilled(CLIP, config).state_dict().items()}


def _open_clip_config(source: Path) -> ClipConfig:
    folder = source if source.is_dir() else source.parent
    return open_clip.read_config(read_json(folder / open_clip.CONFIG_FILE), str(folder / open_clip.CONFIG_FILE))


def _weights_of(source: Path, names: tuple[str, ...]) -> Path:
    if source.is_file():
        return source
    found = _first(source, names)
    if found is None:
        raise WeightsError(f"{source} has no weights; expected one of: {', '.join(names)}")
    return found


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
