"""open_clip's folders: `open_clip_config.json` beside weights that mostly have OpenAI's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.checkpoint.keymap import KeyMap, Rule
from diptych.clip.layouts import openai
from diptych.clip.layouts.layout import check_transformer, mlp_ratio, take
from diptych.clip.model import ClipConfig
from diptych.errors import WeightsError

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name of a training checkpoint."""

_IGNORE = (
    ("*position_ids", "a count from 0, which old files hold"),
    ("*attn_mask", "the causal mask, which is made anew"),
)
KEYS = KeyMap(openai.KEYS.rules, _IGNORE)
KEYS_CUSTOM_TEXT = KeyMap((Rule("{}", "{}"),), _IGNORE)
"""Where the text tower is a module of its own, as it is in our model."""

_VISION = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
_TIMM = {"timm_model_name": None, "timm_pool": "avg", "image_size": 224}
_TIMM_FIXED = {
    "timm_proj": "linear",
    "timm_proj_bias": False,
    "timm_model_pretrained": False,
    "timm_drop": 0.0,
    "timm_drop_path": None,
}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
_TEXT_POOL = {"pool_type": "argmax", "eos_id": 2}
_TEXT_FIXED = {"mlp_ratio": 4.0, "no_causal_mask": False, "embed_cls": False, "proj_type": "linear", "proj_bias": False}
_FIXED = {"ls_init_value": None, "final_ln_after_pool": False, "act_kwargs": None, "norm_kwargs": None}
_VISION_FIXED = {**_FIXED, "patch_dropout": 0.0, "pool_type": "tok", "no_ln_pre": False, "attentional_pool": False}


def key_map(state: Mapping[str, Tensor]) -> KeyMap:
    """The names of this file."""
    return KEYS_CUSTOM_TEXT if any(key.startswith("text.") for key in state) else KEYS


def read_config(published: Mapping[str, Any], where: str) -> ClipConfig:
    """Our config of an `open_clip_config.json`.

    Raises:
        WeightsError: it has settings that CLIP's architectures do not have, or lacks the preprocessing.
    """
    if "model_cfg" not in published or "preprocess_cfg" not in published:
        raise WeightsError(f"{where} has {', '.join(published) or 'nothing'}; expected model_cfg and preprocess_cfg")
    parts: dict[str, Any] = {
        "embed_dim": None,
        "vision_cfg": {},
        "text_cfg": {},
        "quick_gelu": False,
        "custom_text": False,
    }
    model = take(published["model_cfg"], parts, {"init_logit_bias": None, "nonscalar_logit_scale": False}, where)
    return ClipConfig(
        embed_dim=model["embed_dim"],
        activation="quick_gelu" if model["quick_gelu"] else "gelu",
        **_read_vision(model["vision_cfg"], f"{where}, vision_cfg"),
        **_read_text(model["text_cfg"], f"{where}, text_cfg"),
        **_read_preprocessing(published["preprocess_cfg"], f"{where}, preprocess_cfg"),
    )


def write_config(config: ClipConfig) -> dict[str, Any]:
    """The `open_clip_config.json` of a model.

    Raises:
        WeightsError: open_clip has no such model.
    """
    check_transformer(config, "open_clip")
    largest = config.end_id == config.vocab_size - 1
    text = {
        "context_length": config.context,
        "vocab_size": config.vocab_size,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    model = {
        "embed_dim": config.embed_dim,
        "quick_gelu": config.activation == "quick_gelu",
        "vision_cfg": _write_vision(config),
        "text_cfg": text if largest else {**text, "pool_type": "eos", "eos_id": config.end_id},
    }
    preprocessing = {
        "mean": list(config.image_mean),
        "std": list(config.image_std),
        "interpolation": config.interpolation,
        "resize_mode": config.resize_mode,
    }
    return {"model_cfg": model, "preprocess_cfg": preprocessing}


def _read_vision(published: Mapping[str, Any], where: str) -> dict[str, Any]:
    if published.get("timm_model_name") is not None:
        timm = take(published, _TIMM, _TIMM_FIXED, where)
        return {
            "image": "timm",
            "timm_name": timm["timm_model_name"],
            "timm_pool": timm["timm_pool"],
            "image_size": timm["image_size"],
        }
    vision = take(published, _VISION, _VISION_FIXED, where)
    width, head_width, layers = vision["width"], vision["head_width"], vision["layers"]
    sizes = {"image_size": vision["image_size"], "image_width": width}
    if isinstance(layers, list):
        return {"image": "resnet", "image_layers": tuple(layers), "image_heads": width * 32 // head_width, **sizes}
    return {
        "image": "vit",
        "image_layers": (layers,),
        "image_heads": width // head_width,
        "image_mlp_ratio": float(vision["mlp_ratio"]),
        "patch_size": vision["patch_size"],
        **sizes,
    }


def _write_vision(config: ClipConfig) -> dict[str, Any]:
    match config.image:
        case "vit":
            return {
                "image_size": config.image_size,
                "layers": config.image_layers[0],
                "width": config.image_width,
                "head_width": config.image_width // config.image_heads,
                "mlp_ratio": mlp_ratio(config.image_width, int(config.image_width * config.image_mlp_ratio)),
                "patch_size": config.patch_size,
            }
        case "resnet":
            return {
                "image_size": config.image_size,
                "layers": list(config.image_layers),
                "width": config.image_width,
                "head_width": config.image_width * 32 // config.image_heads,
            }
        case "timm":
            return {
                "image_size": config.image_size,
                "timm_model_name": config.timm_name,
                "timm_pool": config.timm_pool,
                "timm_proj": "linear",
            }
        case _:
            raise WeightsError(f"open_clip has no picture tower {config.image!r}; it has vit, resnet and timm")


def _read_text(published: Mapping[str, Any], where: str) -> dict[str, Any]:
    text = take(published, {**_TEXT, **_TEXT_POOL}, {**_FIXED, **_TEXT_FIXED}, where)
    match text["pool_type"]:
        case "argmax":
            end_id = text["vocab_size"] - 1
        case "eos":
            end_id = text["eos_id"]
        case other:
            raise WeightsError(f"{where}: pool_type is {other!r}; CLIP's text is read at its end token")
    return {
        "context": text["context_length"],
        "vocab_size": text["vocab_size"],
        "end_id": end_id,
        "text_width": text["width"],
        "text_layers": text["layers"],
        "text_heads": text["heads"],
    }


def _read_preprocessing(published: Mapping[str, Any], where: str) -> dict[str, Any]:
    defaults = {"mean": None, "std": None, "interpolation": "bicubic", "resize_mode": "shortest", "size": None}
    found = take(published, defaults, {"mode": "RGB", "fill_color": 0}, where)
    if found["mean"] is None or found["std"] is None or found["interpolation"] not in ("bicubic", "bilinear"):
        raise WeightsError(f"{where} has {dict(published)}; expected mean, std and one interpolation")
    return {
        "image_mean": tuple(found["mean"]),
        "image_std": tuple(found["std"]),
        "interpolation": found["interpolation"],
        "resize_mode": found["resize_mode"],
    }
