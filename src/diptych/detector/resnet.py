"""ResNet as Faster R-CNN has it: norms that stand still, the stride where Caffe put it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d


class FrozenConv(nn.Conv2d):
    """A convolution and a batch norm that is never trained: a factor and a shift for each channel."""

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(in_width, width, kernel, stride, padding, dilation, groups, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm: nn.Module = FrozenBatchNorm2d(width)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, in, h, w) to (B, width, h', w')."""
        return self.norm(super().forward(feature_map))

    def fold(self) -> None:
        """Puts the norm into the convolution's weight and bias; the state dict is another one then."""
        if not isinstance(self.norm, FrozenBatchNorm2d):
            return
        factor = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        self.bias = nn.Parameter(self.norm.bias - self.norm.running_mean * factor, requires_grad=False)
        self.weight = nn.Parameter(self.weight.detach() * factor[:, None, None, None], requires_grad=False)
        self.norm = nn.Identity()


class Stem(nn.Module):
    """7x7 convolution and 3x3 max pool, a stride of 2 each.

    Caffe pools without padding and counts the last, incomplete window; with padding everything would lie a pixel off.
    """

    def __init__(self, width: int, *, caffe_pool: bool) -> None:
        super().__init__()
        self.conv1 = FrozenConv(3, width, 7, stride=2, padding=3)
        self.caffe_pool = caffe_pool

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) to (B, width, height / 4, width / 4)."""
        out = F.relu(self.conv1(pixels), inplace=True)
        return F.max_pool2d(out, 3, 2, padding=0 if self.caffe_pool else 1, ceil_mode=self.caffe_pool)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut. ResNet, arXiv:1512.03385, figure 5."""

    def __init__(
        self,
        in_width: int,
        bottleneck: int,
        width: int,
        *,
        stride: int,
        stride_in_1x1: bool,
        dilation: int,
        groups: int,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = FrozenConv(in_width, bottleneck, 1, stride=first)
        self.conv2 = FrozenConv(
            bottleneck, bottleneck, 3, stride=second, padding=dilation, dilation=dilation, groups=groups
        )
        self.conv3 = FrozenConv(bottleneck, width, 1)
        self.shortcut = FrozenConv(in_width, width, 1, stride=stride) if in_width != width else None

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, in, h, w) to (B, width, h / stride, w / stride)."""
        out = F.relu(self.conv1(feature_map), inplace=True)
        out = F.relu(self.conv2(out), inplace=True)
        out = self.conv3(out)
        out += feature_map if self.shortcut is None else self.shortcut(feature_map)
        return F.relu(out, inplace=True)


def stage(
    in_width: int,
    bottleneck: int,
    width: int,
    depth: int,
    *,
    stride: int,
    stride_in_1x1: bool,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """`depth` blocks, of which the first has the stride and the new width."""
    blocks = (
        Bottleneck(
            in_width if index == 0 else width,
            bottleneck,
            width,
            stride=stride if index == 0 else 1,
            stride_in_1x1=stride_in_1x1,
            dilation=dilation,
            groups=groups,
        )
        for index in range(depth)
    )
    return nn.Sequential(*blocks)
