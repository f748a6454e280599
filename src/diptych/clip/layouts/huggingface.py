"""Hugging Face's `CLIPModel` folders: separate query, key and value, projections as linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.checkpoint.keymap import KeyMap, Rule
from diptych.clip.layouts.layout import check_transformer, mlp_ratio, read_json
from diptych.clip.model import ClipConfig
from diptych.errors import WeightsError

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""Newer versions of transformers keep the former in the latter, under "image_processor"."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def _tower(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The blocks of one tower."""
    block, layer = f"{ours}.transformer.resblocks.{{}}.", f"{theirs}.encoder.layers.{{}}."
    split = {
        f"{block}attn.in_proj_{kind}": tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv")
        for kind in ("weight", "bias")
    }
    return (
        *(Rule(name, parts) for name, parts in split.items()),
        Rule(block + "attn.out_proj.{}", layer + "self_attn.out_proj.{}"),
        Rule(block + "ln_1.{}", layer + "layer_norm1.{}"),
        Rule(block + "ln_2.{}", layer + "layer_norm2.{}"),
        Rule(block + "mlp.c_fc.{}", layer + "mlp.fc1.{}"),
        Rule(block + "mlp.c_proj.{}", layer + "mlp.fc2.{}"),
    )


KEYS = KeyMap(
    rules=(
        Rule("logit_scale", "logit_scale"),
        Rule("text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        Rule("text.positional_embedding", "text_model.embeddings.position_embedding.weight"),
        *_tower("text", "text_model"),
        Rule("text.ln_final.{}", "text_model.final_layer_norm.{}"),
        Rule("text.text_projection", "text_projection.weight", transposed=True),
        Rule("visual.class_embedding", "vision_model.embeddings.class_embedding"),
        Rule("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        Rule("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        Rule("visual.ln_pre.{}", "vision_model.pre_layrnorm.{}"),  # spelt so
        *_tower("visual", "vision_model"),
        Rule("visual.ln_post.{}", "vision_model.post_layernorm.{}"),
        Rule("visual.proj", "visual_projection.weight", transposed=True),
    ),
    ignore=(("*.position_ids", "a count from 0, which old files hold"),),
)

_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "eos_token_id": 49407,
    "layer_norm_eps": 1e-5,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_channels": 3,
}
OLD_EOS = 2
"""A wrong number in old files; transformers then reads the text at its largest id."""
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""


def read_config(folder: Path) -> ClipConfig:
    """Our config of a folder's `config.json` and preprocessing.

    Raises:
        WeightsError: one is missing, or says what CLIP's architectures do not have.
    """
    published = read_json(folder / CONFIG_FILE)
    if published.get("model_type") != "clip":
        raise WeightsError(f"{folder / CONFIG_FILE} is of model_type {published.get('model_type')!r}; expected 'clip'")
    text, vision = _part(published, "text_config", _TEXT), _part(published, "vision_config", _VISION)
    fixed = (text["layer_norm_eps"], vision["layer_norm_eps"], vision["num_channels"], vision["hidden_act"])
    if fixed != (1e-5, 1e-5, 3, text["hidden_act"]) or text["hidden_act"] not in ("quick_gelu", "gelu"):
        raise WeightsError(
            f"{folder / CONFIG_FILE} has layer_norm_eps, num_channels and hidden_act {fixed}; expected 1e-5, 3, and "
            "the same quick_gelu or gelu in both towers"
        )
    if text["intermediate_size"] != 4 * text["hidden_size"]:
        raise WeightsError(
            f"{folder / CONFIG_FILE}: the text MLP is {text['intermediate_size']} wide; expected 4 times"
        )
    return ClipConfig(
        embed_dim=published.get("projection_dim", 512),
        image_size=vision["image_size"],
        image_width=vision["hidden_size"],
        image_layers=(vision["num_hidden_layers"],),
        image_heads=vision["num_attention_heads"],
        image_mlp_ratio=mlp_ratio(vision["hidden_size"], vision["intermediate_size"]),
        patch_size=vision["patch_size"],
        activation=text["hidden_act"],
        context=text["max_position_embeddings"],
        vocab_size=text["vocab_size"],
        end_id=text["vocab_size"] - 1 if text["eos_token_id"] == OLD_EOS else text["eos_token_id"],
        text_width=text["hidden_size"],
        text_layers=text["num_hidden_layers"],
        text_heads=text["num_attention_heads"],
        **_read_preprocessing(folder, vision["image_size"]),
    )


def write_configs(config: ClipConfig) -> dict[str, dict[str, Any]]:
    """The JSON files of a `CLIPModel` folder, by name.

    Raises:
        WeightsError: transformers has no such model.
    """
    check_transformer(config, "CLIPModel")
    if config.image != "vit" or config.resize_mode == "longest" or config.end_id == OLD_EOS:
        raise WeightsError(
            f"CLIPModel cannot hold this model (picture tower {config.image}, resize mode {config.resize_mode}, end "
            f"token {config.end_id}): it has vit only, crops or squashes, and reads an end token of {OLD_EOS} otherwise"
        )
    text = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "max_position_embeddings": config.context,
        "hidden_act": config.activation,
        "eos_token_id": config.end_id,
        "bos_token_id": config.end_id - 1,
        "projection_dim": config.embed_dim,
    }
    vision = {
        "hidden_size": config.image_width,
        "intermediate_size": int(config.image_width * config.image_mlp_ratio),
        "num_hidden_layers": config.image_layers[0],
        "num_attention_heads": config.image_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": config.activation,
        "projection_dim": config.embed_dim,
    }
    model = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config.embed_dim,
        "text_config": text,
        "vision_config": vision,
    }
    return {CONFIG_FILE: model, PREPROCESSOR_FILE: _write_preprocessing(config)}


def _part(published: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """One tower's settings; oldest files hold them under NAME_dict, which wins."""
    merged = {**(published.get(name) or {}), **(published.get(f"{name}_dict") or {})}
    return {setting: merged.get(setting, default) for setting, default in defaults.items()}


def _read_preprocessing(folder: Path, image_size: int) -> dict[str, Any]:
    if (folder / PREPROCESSOR_FILE).exists() or not (folder / PROCESSOR_FILE).exists():
        where, found = folder / PREPROCESSOR_FILE, read_json(folder / PREPROCESSOR_FILE)
    else:
        where = folder / PROCESSOR_FILE
        found = read_json(where).get("image_processor", {})
    size = found.get("size")
    squash = isinstance(size, Mapping) and "shortest_edge" not in size
    number = next(iter(size.values())) if isinstance(size, Mapping) and size else size
    names = [name for name, resample in RESAMPLE.items() if resample == found.get("resample")]
    if number != image_size or not names or "image_mean" not in found or "image_std" not in found:
        raise WeightsError(
            f"{where} has size {size}, resample {found.get('resample')}, mean {found.get('image_mean')} and std "
            f"{found.get('image_std')}; expected size {image_size}, a resample of {sorted(RESAMPLE.values())}, and both"
        )
    return {
        "image_mean": tuple(found["image_mean"]),
        "image_std": tuple(found["image_std"]),
        "interpolation": names[0],
        "resize_mode": "squash" if squash else "shortest",
    }


def _write_preprocessing(config: ClipConfig) -> dict[str, Any]:
    square = {"height": config.image_size, "width": config.image_size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if config.resize_mode == "squash" else {"shortest_edge": config.image_size},
        "resample": RESAMPLE[config.interpolation],
        "do_center_crop": config.resize_mode == "shortest",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.image_mean),
        "image_std": list(config.image_std),
    }
