"""UNITER's published weights, with the heads they hold, read under our names and written under theirs; and BERT's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.checkpoint.files import write_whole
from diptych.checkpoint.foreign import read_tensors, tensor_names, write_tensors
from diptych.checkpoint.keymap import PublishedWeights
from diptych.errors import WeightsError
from diptych.nn.unfilled import unfilled
from diptych.uniter.heads import HeadSizes, new_heads
from diptych.uniter.layouts import released
from diptych.uniter.model import UNITER, UniterConfig

Layout = Literal["uniter", "bert"]
CONFIG_FILE = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
EXPECTED = (
    f"UNITER's .pt, a folder of its tensors ({WEIGHT_FILES[0]} and {CONFIG_FILE}), or, to begin a training with, "
    "Hugging Face's folder of a BERT or its name on the hub"
)
HUB_FILES = {CONFIG_FILE: (WEIGHT_FILES, ("vocab.txt", "tokenizer.json"))}
"""The file that says the config -> groups of files on the hub, of each the first that is there is needed. Of a BERT."""
ONLY_REGIONS = "regions."
"""How the names of ours begin that no BERT has."""
COPIED_TYPES = {3: 1, 4: 0}
"""Rows of a grown table of types -> the row that the new ones begin as: NLVR2's models, and VCR's."""
FREE = (
    "dropout",
    "attention_dropout",
    "context",
    "answers",
    "max_regions",
    "detector",
    "detector_hash",
    "feature_kind",
    "box_kind",
    "end_id",
)
"""Settings that may change before weights are trained on, or that weights do not tell."""


def identify(source: Path) -> Layout | None:
    """Whose layout a file or folder has, by its names; None for none that the room reads."""
    if source.is_dir():
        if _read_json(source / CONFIG_FILE).get("model_type") == "bert":
            return "bert"
        file = next((source / name for name in WEIGHT_FILES if (source / name).is_file()), None)
        return None if file is None else identify(file)
    if source.suffix not in SUFFIXES:
        return None
    try:
        return "uniter" if any(name.endswith(released.MARK) for name in tensor_names(source)) else None
    except WeightsError:
        return None


def read_weights(source: Path, config: UniterConfig | None = None) -> PublishedWeights[UniterConfig]:
    """UNITER out of its released file, or as much of it as a BERT has.

    Args:
        source: the file, or a folder with one. What tensors do not say (heads, dropout) is read from the JSON file
            of the same name beside it, or from `config.json`; without one heads are 64 wide, as in all releases.
        config: goes before what the source says.
    Raises:
        WeightsError: it holds no such weights, is damaged, or does not fit.
    """
    layout = identify(source)
    if layout is None:
        raise WeightsError(f"{source} holds no UNITER weights; expected {EXPECTED}")
    file = _weights_of(source)
    theirs = released.renamed(read_tensors(file), str(source))
    if config is None:
        config = released.infer_config(theirs, _told_beside(file), str(source))
    keys = released.key_map(theirs)
    shapes = _shapes(config, released.heads_in(theirs, config.width))
    if layout == "bert":
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith(ONLY_REGIONS)}
        if "uniter.pooler.dense.weight" not in theirs:  # a BERT that was trained on words alone
            shapes = {name: shape for name, shape in shapes.items() if not name.startswith("pooler.")}
    elif released.MASK in theirs:
        # Row 0, which masks nothing, is kept at zero in the release and added to features that are seen.
        theirs[released.MASK] = theirs[released.MASK][1:]
    state = {name: tensor.float() for name, tensor in keys.to_ours(theirs, shapes, str(source)).items()}
    return PublishedWeights(layout, config, state, keys.ignored(theirs))


def write_weights(folder: Path, config: UniterConfig, state: Mapping[str, Tensor], layout: str) -> None:
    """Writes `model.safetensors` under the released names, tied tensors twice, and the released form of config.

    Raises:
        WeightsError: another layout is asked for.
    """
    if layout != "uniter":
        raise WeightsError(f"a UNITER is written as uniter or diptych, found {layout!r}")
    theirs = released.key_map(state).to_theirs(state)
    theirs[released.MASK] = torch.cat([torch.zeros_like(theirs[released.MASK]), theirs[released.MASK]])
    for head, name in released.WRITTEN_TIED.items():
        if head in theirs:
            theirs[name] = theirs[released.TIED[name]].clone()
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHT_FILES[0], theirs)
    write_whole(folder / CONFIG_FILE, json.dumps(_released_config(config), indent=1) + "\n")


def fitted(
    state: Mapping[str, Tensor], config: UniterConfig, wanted: UniterConfig
) -> tuple[Mapping[str, Tensor], UniterConfig, tuple[str, ...]]:
    """Weights for a training of `wanted`; how the names begin that are to be drawn anew.

    The table of types grows as the release lets it: NLVR2's third row begins as row 1, VCR's two as row 0. What a BERT
    has no weights of is drawn anew, and may be of any size. Pairs are ranked at first by what tells a match.

    Raises:
        DataError: `wanted` is for regions of another detector than the weights.
    """
    config.check_regions(wanted)
    fresh = tuple(name for name in (ONLY_REGIONS, "pooler.") if not any(one.startswith(name) for one in state))
    free = {name: getattr(wanted, name) for name in FREE}
    if ONLY_REGIONS in fresh:
        free |= {"feature_width": wanted.feature_width}
    if not any(name.startswith("heads.mrc.") for name in state):  # nothing in the weights is of classes
        free |= {"num_classes": wanted.num_classes}
    if wanted.types > config.types and wanted.types in COPIED_TYPES:
        table = state["text.types.weight"]
        grown = [table, *[table[COPIED_TYPES[wanted.types]][None]] * (wanted.types - config.types)]
        state = {**state, "text.types.weight": torch.cat(grown)}
        free |= {"types": wanted.types}
    if "heads.itm.output.weight" in state and "heads.rank.output.weight" not in state:
        matches = {kind: state[f"heads.itm.output.{kind}"][1:] for kind in ("weight", "bias")}
        state = {**state, **{f"heads.rank.output.{kind}": tensor for kind, tensor in matches.items()}}
    if config.answers and config.answers != wanted.answers:  # heads that were trained for others are of no use
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("heads.vqa.", "heads.ve."))}
    return state, replace(config, **free), fresh


def _shapes(config: UniterConfig, heads: Mapping[str, HeadSizes]) -> dict[str, torch.Size]:
    def model(config: UniterConfig) -> UNITER:
        made = UNITER(config)
        made.heads = new_heads(heads, config)
        return made

    return {name: tensor.shape for name, tensor in unfilled(model, config).state_dict().items()}


def _weights_of(source: Path) -> Path:
    if source.is_file():
        return source
    found = next((source / name for name in WEIGHT_FILES if (source / name).is_file()), None)
    if found is None:
        raise WeightsError(f"{source} has no weights; expected one of: {', '.join(WEIGHT_FILES)}")
    return found


def _told_beside(file: Path) -> Mapping[str, Any]:
    beside = file.with_suffix(".json")
    return _read_json(beside if beside.is_file() else file.parent / CONFIG_FILE)


def _read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; empty where there is no file.

    Raises:
        WeightsError: it holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _released_config(config: UniterConfig) -> dict[str, Any]:
    return {
        "attention_probs_dropout_prob": config.attention_dropout,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "hidden_size": config.width,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.positions,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.depth,
        "type_vocab_size": config.types,
        "vocab_size": config.vocab_size,
    }
