"""torchvision's published weights to begin with: its Faster R-CNNs, whose names are ours, and its ResNets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from diptych.checkpoint.foreign import read_tensors
from diptych.checkpoint.keymap import PublishedWeights
from diptych.detector.faster_rcnn import FasterRCNN
from diptych.detector.own_config import FasterRCNNConfig
from diptych.errors import WeightsError
from diptych.nn.unfilled import unfilled

LAYOUT = "torchvision"
EXPECTED = (
    "the file of torchvision's fasterrcnn_resnet50_fpn or fasterrcnn_resnet50_fpn_v2, or, to begin a training with, of "
    "its resnet50 or resnet101"
)
SUFFIXES = (".pth", ".pt", ".safetensors")
PREDICTOR = "roi_heads.box_predictor."
CLASSES, BOXES = f"{PREDICTOR}cls_score.weight", f"{PREDICTOR}bbox_pred.weight"
ATTRIBUTES = "attributes."
CLASSIFIER = "fc.weight"
"""A tensor of ResNets that were trained on ImageNet, and of no detector."""
MEANING = (
    *("form", "backbone", "widths", "levels", "pyramid_width", "anchor_sizes", "anchor_ratios", "pool_side"),
    *("pool_samples", "pool_scale", "feature_width", "image_mean", "image_std"),
)
"""Settings that the weights of a detector mean something under; all others may change before it is trained on."""


def identify(source: Path) -> str | None:
    """The layout of a file, by the names of its tensors; None for none of these."""
    if not source.is_file() or source.suffix not in SUFFIXES:
        return None
    try:
        names = read_tensors(source).keys()
    except WeightsError:
        return None
    detector = {CLASSES, BOXES, "backbone.fpn.inner_blocks.0.0.weight"} <= names
    return LAYOUT if detector or {CLASSIFIER, "conv1.weight", "layer4.0.conv3.weight"} <= names else None


def read_weights(source: Path, config: FasterRCNNConfig | None = None) -> PublishedWeights[FasterRCNNConfig]:
    """A detector out of torchvision's file; of a ResNet its tensors as they are, which `fitted` gives a place.

    Of 91 columns of classes the 10 that COCO never used are left out, so that none is ever a region's class.

    Args:
        source: the file.
        config: with the names of the classes, where they are not COCO's.
    Raises:
        WeightsError: tensors are missing, left over or of other shapes, or the classes have no names.
    """
    theirs = read_tensors(source)
    if CLASSIFIER in theirs:
        deep = "layer3.22.conv1.weight" in theirs
        return PublishedWeights(LAYOUT, FasterRCNNConfig(backbone="resnet101" if deep else "resnet50"), theirs, {})
    config = _config(theirs, source) if config is None else config
    state, unused = _without_unused(theirs)
    model = unfilled(FasterRCNN, config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    # Statistics of frozen norms are not counted; files of older versions of torchvision hold the count all the same.
    counters = {name for name in found if name.endswith("num_batches_tracked") and name not in expected}
    wrong = [name for name in expected if found.get(name) != expected[name]]
    wrong += [name for name in found if name not in expected and name not in counters]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} tensors of {source} do not fit a Faster R-CNN of its kind, e.g. {wrong[0]}: "
            f"{found.get(wrong[0])} there, {expected.get(wrong[0])} here"
        )
    ignored = dict.fromkeys(counters, "frozen norms count no batches") | unused
    kept = {name: value for name, value in state.items() if name not in counters}
    floats = {name: value.float() if value.is_floating_point() else value for name, value in kept.items()}
    return PublishedWeights(LAYOUT, config, floats, ignored)


def write_weights(folder: Path, config: FasterRCNNConfig, state: Mapping[str, Tensor], layout: str) -> None:
    """Nothing is written for others yet.

    Raises:
        WeightsError: always.
    """
    raise WeightsError(
        f"a detector is written as diptych alone, found {layout!r}; its tensors have torchvision's names"
    )


def fitted(
    state: Mapping[str, Tensor], config: FasterRCNNConfig, wanted: FasterRCNNConfig
) -> tuple[dict[str, Tensor], FasterRCNNConfig, tuple[str, ...]]:
    """Trained weights for another table: the predictors are left out where its classes or attributes are others.

    Returns:
        What is left, the config that it fits, and how the names begin that are to be drawn anew.
    """
    if CLASSIFIER in state:
        return _into_detector(state, config, wanted)
    fresh: tuple[str, ...] = ()
    if config.classes != wanted.classes:
        fresh = (PREDICTOR, ATTRIBUTES)
    elif config.attributes != wanted.attributes:
        fresh = (ATTRIBUTES,)
    kept = {name: value for name, value in state.items() if not name.startswith(fresh)} if fresh else dict(state)
    return kept, replace(wanted, **{name: vars(config)[name] for name in MEANING}), fresh


def _into_detector(
    state: Mapping[str, Tensor], config: FasterRCNNConfig, wanted: FasterRCNNConfig
) -> tuple[dict[str, Tensor], FasterRCNNConfig, tuple[str, ...]]:
    """A ResNet as the backbone that is wanted, its classes left out; all else is to be drawn."""
    second = wanted.backbone == "resnet50_v2" and config.backbone == "resnet50"
    c4 = wanted.form == "c4"
    placed: dict[str, Tensor] = {}
    for name, value in state.items():
        counter = name.endswith("num_batches_tracked") and not second  # frozen norms count nothing
        if not name.startswith("fc.") and not counter:
            before = "roi_heads.box_head." if name.startswith("layer4.") else "backbone."
            placed[(before if c4 else "backbone.body.") + name] = value
    fresh = ("rpn.", PREDICTOR, ATTRIBUTES) if c4 else ("backbone.fpn.", "rpn.", "roi_heads.", ATTRIBUTES)
    return placed, replace(wanted, backbone="resnet50_v2" if second else config.backbone), fresh


def _config(theirs: Mapping[str, Tensor], source: Path) -> FasterRCNNConfig:
    columns = len(theirs[CLASSES])
    if columns != len(COCO):
        raise WeightsError(
            f"{source} knows {columns - 1} classes, and COCO's file has {len(COCO) - 1}; say what they are called in a "
            "JSON file of the model's settings (--config), under 'classes'"
        )
    names = tuple(COCO[place] for place in _used())
    second = "roi_heads.box_head.fc6.weight" not in theirs
    return FasterRCNNConfig(classes=names, backbone="resnet50_v2" if second else "resnet50")


COCO: tuple[str, ...] = tuple(FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"])
"""Background, then COCO's numbers to 90, of which ten are "N/A"."""


def _used() -> list[int]:
    """Columns of COCO's classes, background left out."""
    return [place for place, name in enumerate(COCO) if place > 0 and name != "N/A"]


def _without_unused(theirs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    if len(theirs[CLASSES]) != len(COCO):
        return dict(theirs), {}
    rows = torch.tensor([0, *_used()])
    state = dict(theirs)
    for kind in ("weight", "bias"):
        scores, boxes = f"{PREDICTOR}cls_score.{kind}", f"{PREDICTOR}bbox_pred.{kind}"
        state[scores] = theirs[scores][rows]
        state[boxes] = theirs[boxes].unflatten(0, (-1, 4))[rows].flatten(0, 1)
    return state, {f"{PREDICTOR}*, ten of {len(COCO)} columns": "numbers that COCO never gave to a class"}
