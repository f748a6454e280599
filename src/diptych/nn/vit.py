"""The vision transformer as CLIP has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import ShapeError
from diptych.nn.transformer import Activation, LayerNorm, Transformer


class VisionTransformer(nn.Module):
    """Patches and a class token through a Transformer. ViT, arXiv:2010.11929, with CLIP's norm before the first block.

    CLIP, arXiv:2103.00020, section 2.4.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        *,
        mlp_width: int,
        activation: Activation,
        embed_dim: int,
    ) -> None:
        if image_size % patch_size:
            raise ShapeError(f"pictures of {image_size} pixels cannot be cut into patches of {patch_size}")
        super().__init__()
        self.patch_size = patch_size
        side = image_size // patch_size
        std = width**-0.5
        self.class_embedding = nn.Parameter(std * torch.randn(width))
        self.positional_embedding = nn.Parameter(std * torch.randn(side**2 + 1, width))
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, depth, heads, mlp_width=mlp_width, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(std * torch.randn(width, embed_dim))

    def features(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the class token after the last norm, (B, D)."""
        hidden = self._embedded(images)
        class_token = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        return self.ln_post(self.transformer(hidden, position=class_token, recompute=recompute))

    def feature_map(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the patches after the last norm where they stand, (B, D, h, w)."""
        patches = self.ln_post(self.transformer(self._embedded(images), recompute=recompute))[:, 1:]  # (B, P, D)
        return patches.mT.unflatten(2, (images.shape[2] // self.patch_size, -1))

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to (B, E)."""
        return self.features(images, recompute=recompute) @ self.proj

    def _embedded(self, images: Tensor) -> Tensor:
        """(B, 1 + P, D): what the first block reads, the class token first."""
        patches = self.conv1(images).flatten(2).mT  # (B, P, D)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        return self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
