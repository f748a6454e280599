"""torchvision's Faster R-CNN put together from our parts and theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.parts import RESNET_WIDTHS, MeanOfLayer4, Stages, conv_stages, freeze_stages, resnet_stages
from diptych.errors import UsageError
from diptych.metrics.detection import MOST

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What the second stage's deltas are multiplied by."""


def over_a_pyramid(config: FasterRCNNConfig) -> TorchvisionFasterRCNN:
    """A map for each of several sizes of boxes. arXiv:1612.03144."""
    second = config.backbone == "resnet50_v2"
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d if second else None
    width, side = config.pyramid_width, config.pool_side
    if config.backbone == "conv":
        body: nn.Module = conv_stages(config.widths)
        names, widths = [f"stage{number}" for number in range(1, 1 + len(config.widths))], config.widths
    else:
        body, names, widths = resnet_stages(config.backbone), ["layer1", "layer2", "layer3", "layer4"], RESNET_WIDTHS
        freeze_stages(body, config.learning_stages)
    if not 1 <= config.levels <= len(names):
        raise UsageError(f"model.levels is {config.levels}; the backbone has {len(names)} stages")
    given = {name: str(level) for level, name in enumerate(names[-config.levels :])}
    backbone = BackboneWithFPN(body, given, list(widths[-config.levels :]), width, norm_layer=norm)
    pool = MultiScaleRoIAlign(
        list(given.values()), side, sampling_ratio=config.pool_samples, canonical_scale=config.pool_scale
    )
    head: nn.Module = TwoMLPHead(width * side**2, config.feature_width)
    if second:
        head = FastRCNNConvFCHead((width, side, side), [width] * 4, [config.feature_width], norm_layer=norm)
    return _assembled(config, backbone, pool, head, rpn_depth=2 if second else 1)


def over_one_map(config: FasterRCNNConfig) -> TorchvisionFasterRCNN:
    """C4: one map, whose boxes go through the last stage of the ResNet."""
    body = resnet_stages(config.backbone)
    freeze_stages(body, config.learning_stages)
    backbone = Stages()
    for name, module in body.named_children():
        if name not in ("layer4", "avgpool", "fc"):
            backbone.add_module(name, module)
    backbone.out_channels = RESNET_WIDTHS[2]
    pool = MultiScaleRoIAlign(["0"], config.pool_side, sampling_ratio=config.pool_samples)
    if config.feature_width != RESNET_WIDTHS[3]:
        raise UsageError(f"model.feature_width is {config.feature_width}; that of c4 is {RESNET_WIDTHS[3]}")
    return _assembled(config, backbone, pool, MeanOfLayer4(body.layer4), rpn_depth=1)


def _assembled(
    config: FasterRCNNConfig, backbone: Any, pool: MultiScaleRoIAlign, head: nn.Module, *, rpn_depth: int
) -> TorchvisionFasterRCNN:
    anchors = AnchorGenerator(config.anchor_sizes, (config.anchor_ratios,) * len(config.anchor_sizes))
    return TorchvisionFasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(backbone.out_channels, anchors.num_anchors_per_location()[0], conv_depth=rpn_depth),
        rpn_pre_nms_top_n_train=config.proposals_training,
        rpn_pre_nms_top_n_test=config.proposals,
        rpn_post_nms_top_n_train=config.proposals_training,
        rpn_post_nms_top_n_test=config.proposals,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=FastRCNNPredictor(config.feature_width, 1 + len(config.classes)),
        box_detections_per_img=MOST,
        bbox_reg_weights=BOX_WEIGHTS,
    )
