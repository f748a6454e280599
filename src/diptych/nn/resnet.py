"""CLIP's modified ResNet: a stem of three convolutions, anti-aliased strides, attention pooling."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.errors import ShapeError
from diptych.nn.attention import AttentionPool
from diptych.nn.recompute import run_block


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; a stride is an average pool, never a skipping convolution."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        nn.init.zeros_(self.bn3.weight)  # a new block adds nothing to its shortcut
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                OrderedDict(  # named as in the published weights, where the pool has no number
                    [
                        ("pool", nn.AvgPool2d(stride) if stride > 1 else nn.Identity()),
                        ("0", nn.Conv2d(in_width, out_width, 1, bias=False)),
                        ("1", nn.BatchNorm2d(out_width)),
                    ]
                )
            )

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, in, h, w) to (B, 4 · width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(feature_map)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.pool(out)))
        shortcut = feature_map if self.downsample is None else self.downsample(feature_map)
        return F.relu(out + shortcut)


class ModifiedResNet(nn.Module):
    """CLIP, arXiv:2103.00020, section 2.4: ResNet-D's stem, anti-aliasing, and attention in place of the mean.

    Differs: anti-aliasing is a 2x2 average pool, as in the released code; the paper's "rect-2 blur pooling" is one.
    """

    def __init__(self, image_size: int, width: int, layers: tuple[int, ...], heads: int, *, embed_dim: int) -> None:
        if image_size % 32 or len(layers) != 4:
            raise ShapeError(
                f"a modified ResNet takes pictures whose size is a multiple of 32 and has four stages; "
                f"found size {image_size} and {len(layers)} stages"
            )
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool(image_size // 32, width * 32, heads, embed_dim)

    def feature_map(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to (B, 32 · width, height / 32, width / 32)."""
        out = F.relu(self.bn1(self.conv1(images)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = F.relu(self.bn3(self.conv3(out)))
        out = F.avg_pool2d(out, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                out = run_block(block, out, recompute=recompute)
        return out

    def features(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to what attention pooling gives, (B, E): there is no projection after it."""
        return self.attnpool(self.feature_map(images, recompute=recompute))

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to (B, E)."""
        return self.features(images, recompute=recompute)


def _stage(in_width: int, width: int, depth: int, stride: int) -> nn.Sequential:
    out_width = width * Bottleneck.expansion
    first = Bottleneck(in_width, width, stride)
    return nn.Sequential(first, *(Bottleneck(out_width, width, stride=1) for _ in range(depth - 1)))
