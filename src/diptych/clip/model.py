"""CLIP: a picture tower and a text tower that meet in one space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch
from diptych.errors import UsageError, unknown
from diptych.nn.convnet import ConvNet
from diptych.nn.resnet import ModifiedResNet
from diptych.nn.text import BagOfWords, Pool, TextTransformer
from diptych.nn.timm_tower import TimmTower
from diptych.nn.transformer import Activation
from diptych.nn.vit import VisionTransformer
from diptych.objectives.objective import Dual

IMAGE_TOWERS = ("vit", "resnet", "conv", "timm")
TEXT_TOWERS = ("transformer", "cbow")
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

ImageTower = VisionTransformer | ModifiedResNet | ConvNet | TimmTower


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Sizes of both towers, and how their inputs are made. The defaults are ViT-B/32."""

    embed_dim: int = 512
    """E, the width of the space that both towers project into."""
    image: Literal["vit", "resnet", "conv", "timm"] = "vit"
    """The picture tower: CLIP's two, a small plain convolutional network, or any backbone of timm."""
    image_size: int = 224
    """Pictures are squares of so many pixels."""
    image_width: int = 768
    """vit: width; resnet: channels after the stem; conv: channels of the first stage."""
    image_layers: tuple[int, ...] = (12,)
    """vit: one number, its depth; resnet: blocks of each of the four stages; conv: convolutions of each stage."""
    image_heads: int = 12
    """vit: attention heads; resnet: those of the attention pool."""
    image_mlp_ratio: float = 4.0
    """vit: the MLP's width is the whole part of width times this."""
    patch_size: int = 32
    """vit."""
    timm_name: str = ""
    """timm: the backbone, e.g. "convnext_tiny"."""
    timm_pool: str = ""
    """timm: how its last map is pooled, e.g. "avg"; empty: as the backbone does it."""
    activation: Activation = "quick_gelu"
    """Of both towers. OpenAI's models have quick_gelu, most of LAION's gelu; weights do not tell."""
    text: Literal["transformer", "cbow"] = "transformer"
    context: int = 77
    """Longest text in tokens, with start and end."""
    vocab_size: int = 49408
    end_id: int = 49407
    """The token that ends a text, and at which a pool of "end" reads."""
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    causal: bool = True
    """A token sees only those before it, as in the paper."""
    text_pool: Pool = "end"
    """Read the text at its end token, as in the paper, or as the mean over its tokens."""
    image_mean: tuple[float, float, float] = OPENAI_MEAN
    image_std: tuple[float, float, float] = OPENAI_STD
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    """Pictures are cropped, padded or squashed into the square."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    temperature: float = 0.07
    """What cosines are divided by when training begins."""
    max_scale: float = 100.0
    """Cosines are never multiplied by more."""


class CLIP(nn.Module):
    """Two towers and a temperature. CLIP, arXiv:2103.00020, sections 2.3 and 2.4.

    Parameters are named as in open_clip's models with a text tower of its own: `visual.`, `text.`, `logit_scale`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual: ImageTower = image_tower(config)
        self.text = text_tower(config)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.heads = nn.ModuleDict()
        self.activation_checkpointing = False
        """Blocks keep only their input for the backward pass; the training loop sets it."""
        self.register_buffer("pixel_mean", 255 * torch.tensor(config.image_mean)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", 255 * torch.tensor(config.image_std)[:, None, None], persistent=False)

    def forward(self, batch: Batch) -> Dual:
        """Both sides of every pair."""
        if batch.image is None or batch.text is None:
            missing = "pictures" if batch.image is None else "texts"
            raise ValueError(f"CLIP reads pictures and texts; this batch has no {missing}")
        return Dual(
            image=self.encode_image(batch.image.pixels),
            text=self.encode_text(batch.text.ids, batch.text.mask),
            scale=self.scale,
            group=batch.group,
        )

    @property
    def scale(self) -> Tensor:
        """() what cosines are multiplied by, at most `max_scale`."""
        return bounded(self.logit_scale.float(), math.log(self.config.max_scale)).exp().reshape(())

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) to (B, E), not normalised; see `normalised_images` for what pixels may be."""
        return self.visual(self.normalised_images(pixels), recompute=self.activation_checkpointing)

    def encode_text(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T) ids, and a mask that is True where real, to (B, E), not normalised."""
        return self.text(ids, mask, recompute=self.activation_checkpointing)

    def image_features(self, pixels: Tensor) -> Tensor:
        """What a linear probe reads, (B, D): ViT's class token before the projection, ResNet's pooled vector.

        CLIP, arXiv:2103.00020, section 3.2. Differs: nothing; for ResNets the paper says "penultimate layer" only, and
        the attention pool's output is our reading.
        """
        return self.visual.features(self.normalised_images(pixels))

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, D, h, w): the tower's last map, before it becomes one vector; regions are pooled from it."""
        return self.visual.feature_map(self.normalised_images(pixels))

    def normalised_images(self, pixels: Tensor) -> Tensor:
        """uint8 pixels on the model's scale; pixels of a float type are taken as being there already."""
        if pixels.dtype != torch.uint8:
            return pixels
        return (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std


def image_tower(config: ClipConfig) -> ImageTower:
    """The picture tower that `config.image` names; every one has `feature_map`, `features` and `forward`."""
    match config.image:
        case "vit":
            return VisionTransformer(
                config.image_size,
                config.patch_size,
                config.image_width,
                _single(config.image_layers),
                config.image_heads,
                mlp_width=int(config.image_width * config.image_mlp_ratio),
                activation=config.activation,
                embed_dim=config.embed_dim,
            )
        case "resnet":
            return ModifiedResNet(
                config.image_size,
                config.image_width,
                config.image_layers,
                config.image_heads,
                embed_dim=config.embed_dim,
            )
        case "conv":
            return ConvNet(config.image_size, config.image_width, config.image_layers, embed_dim=config.embed_dim)
        case "timm":
            return TimmTower(config.timm_name, config.image_size, pool=config.timm_pool, embed_dim=config.embed_dim)
        case _:
            raise UsageError(unknown("picture tower", config.image, IMAGE_TOWERS))


def text_tower(config: ClipConfig) -> nn.Module:
    """The text tower that `config.text` names."""
    match config.text:
        case "transformer":
            return TextTransformer(
                config.vocab_size,
                config.context,
                config.text_width,
                config.text_layers,
                config.text_heads,
                activation=config.activation,
                embed_dim=config.embed_dim,
                end_id=config.end_id,
                causal=config.causal,
                pool=config.text_pool,
            )
        case "cbow":
            return BagOfWords(config.vocab_size, config.text_width, embed_dim=config.embed_dim, end_id=config.end_id)
        case _:
            raise UsageError(unknown("text tower", config.text, TEXT_TOWERS))


def bounded(value: Tensor, upper: float) -> Tensor:
    """The smaller of `value` and `upper`; above the bound only a gradient that leads back below it passes.

    A plain clamp has no gradient there, and a temperature that once crossed the bound could never return.
    """
    return _Bounded.apply(value, upper)


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, upper: float) -> Tensor:
        context.save_for_backward(value)
        context.upper = upper
        return value.clamp(max=upper)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (value,), gradient = context.saved_tensors, gradients[0]
        return torch.where((value < context.upper) | (gradient > 0), gradient, 0.0), None


def _single(layers: tuple[int, ...]) -> int:
    if len(layers) != 1:
        raise UsageError(f"model.image_layers is {layers}; a vit has one depth, e.g. --set model.image_layers=12")
    return layers[0]
