"""A small plain convolutional network, for pictures of a few dozen pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import ShapeError
from diptych.nn.recompute import run_block


class ConvNet(nn.Module):
    """Stages of convolution, batch norm and ReLU; the last map is flattened, so that it keeps where things are.

    Not of a paper: what learned the built-in scenes fastest on two cores. In a prototype a pooled map reached 72 % of
    things where the flattened one reached 86 %, and a plain ViT 12 %.
    """

    def __init__(self, image_size: int, width: int, layers: tuple[int, ...], *, embed_dim: int) -> None:
        shrink = 2 ** len(layers)
        if not layers or image_size % shrink:
            raise ShapeError(
                f"each of the {len(layers)} stages halves the picture, so its size must be a multiple of {shrink}; "
                f"found {image_size}"
            )
        super().__init__()
        widths = [width * 2**stage for stage in range(len(layers))]
        before = [3, *widths[:-1]]
        self.stages = nn.ModuleList(conv_stage(*sizes) for sizes in zip(before, widths, layers, strict=True))
        num_features = widths[-1] * (image_size // shrink) ** 2
        self.proj = nn.Parameter(num_features**-0.5 * torch.randn(num_features, embed_dim))

    def feature_map(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the last map, (B, channels, height / shrink, width / shrink)."""
        for stage in self.stages:
            images = run_block(stage, images, recompute=recompute)
        return images

    def features(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the flattened last map, (B, channels · side²)."""
        return self.feature_map(images, recompute=recompute).flatten(1)

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to (B, E)."""
        return self.features(images, recompute=recompute) @ self.proj


def conv_stage(in_width: int, width: int, depth: int) -> nn.Sequential:
    """`depth` convolutions, the first of which halves the map."""
    layers: list[nn.Module] = []
    for index in range(depth):
        stride, from_width = (2, in_width) if index == 0 else (1, width)
        layers += [
            nn.Conv2d(from_width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
