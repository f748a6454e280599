"""Parts of a Faster R-CNN that torchvision has not, or has in another form."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d

from diptych.detector.own_config import Backbone
from diptych.nn.convnet import conv_stage

RESNET_WIDTHS = (256, 512, 1024, 2048)


class MeanOfLayer4(nn.Module):
    """The last stage of a ResNet on pooled boxes, and the mean over what comes out: the box head of C4."""

    def __init__(self, layer4: nn.Module) -> None:
        super().__init__()
        self.layer4 = layer4

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 1024, 14, 14) to (R, 2048)."""
        return self.layer4(pooled).mean((2, 3))


class Stages(nn.Sequential):
    """A stack of stages, of which the last map alone is given; C4's backbone."""

    out_channels: int

    def forward(self, pictures: Tensor) -> Any:
        """(B, 3, height, width) to the one map, under the name that torchvision gives it."""
        return OrderedDict({"0": super().forward(pictures)})


def conv_stages(widths: tuple[int, ...]) -> nn.Sequential:
    """Two convolutions a stage, each of which halves the map: small, for pictures of a few dozen pixels."""
    before = (3, *widths[:-1])
    return nn.Sequential(
        OrderedDict(
            (f"stage{number}", conv_stage(width_in, width, 2 if number > 1 else 1))
            for number, (width_in, width) in enumerate(zip(before, widths, strict=True), start=1)
        )
    )


def resnet_stages(name: Backbone) -> Any:
    """A ResNet of torchvision; frozen norms, save in the second version."""
    norm = nn.BatchNorm2d if name == "resnet50_v2" else FrozenBatchNorm2d
    build = resnet.resnet101 if name == "resnet101" else resnet.resnet50
    return build(weights=None, norm_layer=norm)


def freeze_stages(body: nn.Module, learning: int) -> None:
    """Lets the last so many of a ResNet's five stages learn, the stem being one, and no other."""
    kept = ["layer4", "layer3", "layer2", "layer1", "conv1"][:learning] + (["bn1"] if learning == 5 else [])
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(any(name.startswith(stage) for stage in kept))
