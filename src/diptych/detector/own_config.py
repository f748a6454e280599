"""The sizes of one's own detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.errors import UsageError

Backbone = Literal["conv", "resnet50", "resnet50_v2", "resnet101"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig:
    """Sizes of a detector; the defaults are torchvision's `fasterrcnn_resnet50_fpn`."""

    classes: tuple[str, ...] = ()
    """Names, without background; (): those of the objects in the table that is trained on."""
    attribute_fields: tuple[str, ...] = ()
    """Fields of an object whose words are its attributes, e.g. colour,texture; (): no attribute head."""
    attributes: tuple[str, ...] = ()
    """Names; (): the words of these fields in the table."""
    form: Literal["fpn", "c4"] = "fpn"
    """c4: one map of stride 16, whose boxes go through the last stage; features like bottom-up attention's."""
    backbone: Backbone = "resnet50"
    """resnet50_v2 has norms that learn, and the heads of torchvision's second version."""
    widths: tuple[int, ...] = (24, 48, 96, 96)
    """conv: channels of the stages, each of which halves the map."""
    levels: int = 4
    """fpn: how many of the last stages give a map; the pyramid has one more, of half the last."""
    pyramid_width: int = 256
    learning_stages: int = 3
    """resnet: the last of its five stages that learn."""
    freeze_norms: bool = True
    """Batch norms keep their statistics; few pictures make poor ones."""
    shorter_side: int = 800
    """Pictures are resized to this, unless their longer side would pass `longer_side`."""
    longer_side: int = 1333
    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    """By level, in pixels of the resized picture."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    anchors_drawn: int = 256
    """That a picture teaches the first stage by."""
    proposals: int = 1000
    """That the first stage hands on; `proposals_training` while it learns."""
    proposals_training: int = 2000
    regions_drawn: int = 512
    """That a picture teaches the second stage by."""
    pool_side: int = 7
    """Cells of a pooled box; 14 for c4."""
    pool_samples: int = 2
    """Points a side of each cell, whose mean is taken; the pass back through them is slow on a CPU."""
    pool_scale: int = 224
    """fpn: a box of this side is pooled from the level of stride 16, a smaller one from a finer level."""
    feature_width: int = 1024
    """Of a region's feature, a multiple of 8; c4: the backbone's, 2048."""
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Raises UsageError where sizes do not fit each other."""
        if self.form == "c4":
            if self.backbone == "conv":
                raise UsageError("model.form is c4, which needs the stages of a ResNet; found model.backbone=conv")
            expected = 1
        else:
            expected = self.levels + 1
        if self.feature_width % 8:
            raise UsageError(f"model.feature_width is {self.feature_width}; expected a multiple of 8")
        if len(self.anchor_sizes) != expected:
            raise UsageError(
                f"model.anchor_sizes has {len(self.anchor_sizes)} levels; {self.form} with model.levels={self.levels} "
                f"needs {expected}"
            )
