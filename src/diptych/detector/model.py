"""Faster R-CNN, C4 form: one map for proposals and regions, ResNet's last stage run on every region.

Pixels -> `Backbone` (stem, res2-res4) -> `ProposalNetwork` -> boxes -> `RegionHead` (pool, res5, mean) -> features ->
`Predictor` (classes, boxes, attributes). Faster R-CNN, arXiv:1506.01497; bottom-up attention, arXiv:1707.07998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from diptych.detector.boxes import anchor_grid, cell_anchors, clip, decode, nms, sides
from diptych.detector.resnet import FrozenConv, Stem, stage
from diptych.detector.winograd import use_winograd

STRIDE = 16
"""Pixels between the cells of the map that everything is read from."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Sizes and conventions. The defaults are bottom-up attention as the detectron2 ports have it."""

    stages: tuple[int, int, int, int] = (3, 4, 23, 3)
    """Blocks of res2 to res5; res5 is the one that runs on regions."""
    stem_width: int = 64
    width: int = 256
    """Of res2; each stage after it is twice as wide, so that features have 8 times as many numbers."""
    bottleneck: int = 64
    """Of res2, all groups together; twice as wide in each stage after it."""
    groups: int = 1
    stride_in_1x1: bool = True
    """The stride of a stage is in its first 1x1 convolution (Caffe), else in the 3x3 (torchvision)."""
    caffe_pool: bool = True
    """The stem's max pool has no padding and counts an incomplete last window."""
    plus_one: bool = False
    """The box convention, see `boxes`; it changes anchors, coding, clipping, smallest side and overlap together."""
    anchor_sizes: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_offset: float = 0.0
    """Where in its cell an anchor's centre lies, in strides."""
    rpn_width: int = 512
    rpn_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    min_side: float = 0.0
    """Proposals must be longer, in resized pixels; with `plus_one` at least as long, in pixels of the picture."""
    pre_nms: int = 6000
    rpn_nms: float = 0.7
    post_nms: int = 300
    pool: Literal["roi_pool", "roi_align"] = "roi_pool"
    pool_size: int = 14
    pool_samples: int = 0
    """roi_align: points a side of each bin; 0: as many as the bin has cells."""
    halve_res5: bool = False
    """res5 has its stride of 2; else none, and dilated 3x3 convolutions: four times the work."""
    num_classes: int = 1600
    """C, without background."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    num_attributes: int = 400
    """A, without "no attribute"; 0: there is no attribute branch."""
    no_attribute_competes: bool = False
    """The softmax over attributes runs over "no attribute" too (Caffe); else every region gets an attribute."""

    @property
    def map_width(self) -> int:
        """Channels of res4."""
        return 4 * self.width

    @property
    def feature_width(self) -> int:
        """F, numbers of a region's feature."""
        return 8 * self.width


@dataclass(frozen=True)
class Proposals:
    """Where objects may be in one picture, the likeliest first."""

    boxes: Tensor
    """(R, 4) in resized pixels."""
    logits: Tensor
    """(R,)."""
    finite: bool
    """Whether every number is that they were chosen by; NaN chooses none, or any."""


class C4Detector(nn.Module):
    """The four parts; `BottomUpAttention` calls them one by one, and so may a loss."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.rpn = ProposalNetwork(config)
        self.head = RegionHead(config)
        self.predictor = Predictor(config)

    def quicken(self) -> None:
        """For inference alone: the same numbers within rounding, sooner. The state dict is another one then."""
        for module in self.modules():
            if isinstance(module, FrozenConv):
                module.fold()
        if self.rpn.cell_anchors.device.type == "cpu":
            use_winograd(self.head.res5, self.head.map_size)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class Backbone(nn.Module):
    """ResNet up to res4."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        depth2, depth3, depth4, _ = config.stages
        width, bottleneck = config.width, config.bottleneck
        block = partial(stage, stride_in_1x1=config.stride_in_1x1, groups=config.groups)
        self.stem = Stem(config.stem_width, caffe_pool=config.caffe_pool)
        self.res2 = block(config.stem_width, bottleneck, width, depth2, stride=1)
        self.res3 = block(width, 2 * bottleneck, 2 * width, depth3, stride=2)
        self.res4 = block(2 * width, 4 * bottleneck, 4 * width, depth4, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) to the map, (B, 4 · width, height / 16, width / 16)."""
        return self.res4(self.res3(self.res2(self.stem(pixels))))


class ProposalNetwork(nn.Module):
    """Scores and moves the anchors of every cell. Faster R-CNN, section 3.1."""

    cell_anchors: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        cells = cell_anchors(config.anchor_sizes, config.anchor_ratios, STRIDE, plus_one=config.plus_one)
        self.conv = nn.Conv2d(config.map_width, config.rpn_width, 3, padding=1)
        self.objectness = nn.Conv2d(config.rpn_width, len(cells), 1)
        self.deltas = nn.Conv2d(config.rpn_width, 4 * len(cells), 1)
        for layer in (self.conv, self.objectness, self.deltas):
            _draw(layer, 0.01)
        self.register_buffer("cell_anchors", cells)  # (A, 4), kept with the weights, which know no others

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """(B, ., h, w) to logits (B, h · w · A) and deltas (B, h · w · A, 4), in the order of `anchors`."""
        hidden = F.relu(self.conv(feature_map), inplace=True)
        logits = self.objectness(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        return logits, deltas

    def anchors(self, height: int, width: int) -> Tensor:
        """(h · w · A, 4) of a map of so many cells."""
        return anchor_grid(self.cell_anchors, height, width, STRIDE, self.config.anchor_offset)

    def propose(
        self, feature_map: Tensor, sizes: Sequence[tuple[int, int]], scales: Sequence[float]
    ) -> list[Proposals]:
        """The boxes of each picture.

        Args:
            feature_map: (B, ., h, w).
            sizes: height and width of each in resized pixels, without padding.
            scales: resized pixels to a pixel of the picture, which `min_side` counts in with `plus_one`.
        """
        logits, deltas = self(feature_map)
        anchors = self.anchors(*feature_map.shape[-2:])
        pictures = zip(logits, deltas, sizes, scales, strict=True)
        return [self._best(logit, delta, anchors, size, scale) for logit, delta, size, scale in pictures]

    def _best(self, logits: Tensor, deltas: Tensor, anchors: Tensor, size: tuple[int, int], scale: float) -> Proposals:
        config, plus_one = self.config, self.config.plus_one
        finite = bool(logits.isfinite().all()) and bool(deltas.isfinite().all())
        order = logits.argsort(descending=True, stable=True)
        if not plus_one:  # in Caffe small boxes go first, and so make room for more
            order = order[: config.pre_nms]
        boxes = decode(deltas[order], anchors[order], config.rpn_weights, plus_one=plus_one)
        boxes = clip(boxes, *size, plus_one=plus_one)
        shortest = sides(boxes, plus_one=plus_one).amin(dim=1)
        large = shortest >= config.min_side * scale if plus_one else shortest > config.min_side
        boxes, logits = boxes[large][: config.pre_nms], logits[order][large][: config.pre_nms]
        kept = nms(boxes, logits, config.rpn_nms, plus_one=plus_one)[: config.post_nms]
        return Proposals(boxes[kept], logits[kept], finite)


class RegionHead(nn.Module):
    """The feature of a box: pooled from the map, through res5, averaged."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.res5 = stage(
            config.map_width,
            8 * config.bottleneck,
            config.feature_width,
            config.stages[3],
            stride=2 if config.halve_res5 else 1,
            dilation=1 if config.halve_res5 else 2,
            stride_in_1x1=config.stride_in_1x1,
            groups=config.groups,
        )

    @property
    def map_size(self) -> int:
        """Cells a side of res5's maps."""
        return (self.config.pool_size + 1) // 2 if self.config.halve_res5 else self.config.pool_size

    def forward(self, feature_map: Tensor, boxes: Sequence[Tensor], *, at_once: int = 16) -> Tensor:
        """(B, ., h, w) and (R, 4) boxes of each picture, in resized pixels, to features (all R, F).

        Args:
            feature_map: of the backbone.
            boxes: of each picture.
            at_once: so many regions are in memory together; it changes no number.
        """
        feature_map = feature_map.contiguous()  # once, as the pooling would for every part
        picture = torch.cat([box.new_full((len(box), 1), index) for index, box in enumerate(boxes)])
        rois = torch.cat([picture, torch.cat(list(boxes))], dim=1)  # (R, 5)
        if len(rois) == 0:
            return feature_map.new_zeros(0, self.config.feature_width)
        parts = (self.pool(feature_map, part) for part in rois.split(at_once))
        return torch.cat([self.res5(part).mean(dim=(2, 3)) for part in parts])

    def pool(self, feature_map: Tensor, rois: Tensor) -> Tensor:
        """(R, 5) boxes, each with the number of its picture before it, to (R, ., size, size)."""
        size, scale = self.config.pool_size, 1 / STRIDE
        if self.config.pool == "roi_pool":
            pooled = ops.roi_pool(feature_map, rois, size, scale)
        else:
            pooled = ops.roi_align(feature_map, rois, size, scale, self.config.pool_samples, aligned=True)
        return pooled.contiguous(memory_format=torch.channels_last)


class Predictor(nn.Module):
    """What a region shows, where its object ends, and how it looks."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        width, classes = config.feature_width, config.num_classes
        self.classes = nn.Linear(width, 1 + classes)
        self.boxes = nn.Linear(width, 4 * classes)
        self.attributes = AttributeBranch(config) if config.num_attributes else None
        _draw(self.classes, 0.01)
        _draw(self.boxes, 0.001)

    def class_probs(self, features: Tensor) -> Tensor:
        """(R, 1 + C), background first; the softmax runs over it too."""
        return self.classes(features).softmax(dim=-1)

    def regress(self, features: Tensor, proposals: Tensor, class_ids: Tensor) -> Tensor:
        """(n, 4) proposals moved onto their objects, as they are for one class each."""
        weight = self.boxes.weight.unflatten(0, (-1, 4))[class_ids]  # (n, 4, F): only those that are asked for
        bias = self.boxes.bias.unflatten(0, (-1, 4))[class_ids]
        deltas = (weight @ features[:, :, None]).squeeze(2) + bias
        return decode(deltas, proposals, self.config.box_weights, plus_one=self.config.plus_one)


class AttributeBranch(nn.Module):
    """Attributes of a region from its feature and its class. Bottom-up attention, section 3.1."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.feature_width
        self.no_attribute_competes = config.no_attribute_competes
        self.class_embedding = nn.Embedding(1 + config.num_classes, width // 8)
        self.hidden = nn.Linear(width + width // 8, width // 4)
        self.scores = nn.Linear(width // 4, 1 + config.num_attributes)

    def forward(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, F) and classes counted from background (0), to logits (R, 1 + A), "no attribute" first.

        In training the true class, afterwards the likeliest, be it background.
        """
        known = torch.cat([features, self.class_embedding(class_ids)], dim=-1)
        return self.scores(F.relu(self.hidden(known), inplace=True))

    def probs(self, features: Tensor, class_probs: Tensor) -> Tensor:
        """(R, A) attributes of regions with such classes (R, 1 + C)."""
        logits = self(features, class_probs.argmax(dim=-1))
        return logits.softmax(dim=-1)[:, 1:] if self.no_attribute_competes else logits[:, 1:].softmax(dim=-1)


def _draw(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
