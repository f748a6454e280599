"""OpenAI's files: a TorchScript archive with no config, whose sizes are read from the tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.checkpoint.keymap import KeyMap, Rule
from diptych.clip.layouts.layout import HOW_TO_SAY
from diptych.clip.model import ClipConfig
from diptych.errors import WeightsError

KEYS = KeyMap(
    rules=(
        Rule("text.{}", "{}"),
        Rule("visual.{}", "visual.{}"),
        Rule("logit_scale", "logit_scale"),
    ),
    ignore=(
        ("input_resolution", "says the picture size, which the position embeddings say too"),
        ("context_length", "says the context, which the position embeddings say too"),
        ("vocab_size", "says the vocabulary size, which the token embeddings say too"),
        ("*attn_mask", "the causal mask, which is made anew"),
    ),
)
HEAD_WIDTH = 64
VIT_WIDTHS = (768, 1024)
RESNET_WIDTHS = (64, 80, 96, 128)
TEXT_WIDTHS = (512, 640, 768, 1024)


def infer_config(state: Mapping[str, Tensor], source: str) -> ClipConfig:
    """The sizes of one of OpenAI's models from its tensors; heads of 64 and QuickGELU are OpenAI's in all of them.

    Raises:
        WeightsError: the widths are not OpenAI's, so that heads and activation would be guessed.
    """
    try:
        text_width, embed_dim = state["text_projection"].shape
        text: dict[str, Any] = {
            "embed_dim": embed_dim,
            "context": len(state["positional_embedding"]),
            "vocab_size": len(state["token_embedding.weight"]),
            "end_id": len(state["token_embedding.weight"]) - 1,
            "text_width": text_width,
            "text_layers": _count(state, "transformer.resblocks."),
            "text_heads": text_width // HEAD_WIDTH,
        }
        image = _vit(state) if "visual.proj" in state else _resnet(state)
    except KeyError as error:
        raise WeightsError(f"{source} has no {error}; it is not one of OpenAI's CLIP models") from error
    widths = VIT_WIDTHS if image["image"] == "vit" else RESNET_WIDTHS
    if image["image_width"] not in widths or text_width not in TEXT_WIDTHS:
        raise WeightsError(
            f"{source} has no config, and its widths ({image['image_width']} for pictures, {text_width} for text) are "
            f"not OpenAI's; heads and activation cannot be seen in weights and are not guessed: {HOW_TO_SAY}"
        )
    return ClipConfig(activation="quick_gelu", **image, **text)


def _vit(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width, _, _, patch_size = state["visual.conv1.weight"].shape
    side = math.isqrt(len(state["visual.positional_embedding"]) - 1)
    return {
        "image": "vit",
        "image_width": width,
        "patch_size": patch_size,
        "image_size": side * patch_size,
        "image_layers": (_count(state, "visual.transformer.resblocks."),),
        "image_heads": width // HEAD_WIDTH,
    }


def _resnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = len(state["visual.layer1.0.conv1.weight"])
    side = math.isqrt(len(state["visual.attnpool.positional_embedding"]) - 1)
    return {
        "image": "resnet",
        "image_width": width,
        "image_size": side * 32,
        "image_layers": tuple(_count(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)),
        "image_heads": width * 32 // HEAD_WIDTH,
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many different indices follow `prefix`."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
