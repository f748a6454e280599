"""The names of the detectron2 ports, which the LXMERT port shares, and what its files without a config are of."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from diptych.checkpoint.keymap import KeyMap, Rule
from diptych.detector.model import DetectorConfig
from diptych.detector.selection import LxmertRule
from diptych.errors import WeightsError

ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
STEM = "backbone.stem.conv1.weight"
KEYS = KeyMap(
    rules=(
        Rule("backbone.{}", "backbone.{}"),
        Rule("rpn.cell_anchors", ANCHORS),
        Rule("rpn.conv.{}", "proposal_generator.rpn_head.conv.{}"),
        Rule("rpn.objectness.{}", "proposal_generator.rpn_head.objectness_logits.{}"),
        Rule("rpn.deltas.{}", "proposal_generator.rpn_head.anchor_deltas.{}"),
        Rule("head.res5.{}", "roi_heads.res5.{}"),
        Rule("predictor.classes.{}", "roi_heads.box_predictor.cls_score.{}"),
        Rule("predictor.boxes.{}", "roi_heads.box_predictor.bbox_pred.{}"),
        Rule("predictor.attributes.class_embedding.{}", "roi_heads.box_predictor.cls_embedding.{}"),
        Rule("predictor.attributes.hidden.{}", "roi_heads.box_predictor.fc_attr.{}"),
        Rule("predictor.attributes.scores.{}", "roi_heads.box_predictor.attr_score.{}"),
    ),
    ignore=(
        ("*.num_batches_tracked", "a count of training batches; the norms stand still"),
        ("pixel_mean", "the preprocessing says it"),
        ("pixel_std", "the preprocessing says it"),
    ),
)
RULE = LxmertRule(nms=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
"""That of the port's script for COCO, at 600 and 1000 pixels; its notebooks have another, at 800 and 1333."""
BACKGROUND_LAST = (
    "predictor.classes.weight",
    "predictor.classes.bias",
    "predictor.attributes.class_embedding.weight",
    "predictor.attributes.scores.weight",
    "predictor.attributes.scores.bias",
)
"""Ours of the tensors whose last row is background, or "no attribute", in these files; with us it is the first."""


def background_first(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict in our order of classes and attributes."""
    return {name: tensor.roll(1, 0) if name in BACKGROUND_LAST else tensor for name, tensor in state.items()}


def infer_config(theirs: Mapping[str, Tensor], source: str) -> DetectorConfig:
    """The release's config, with sizes as these weights have them.

    Raises:
        WeightsError: a tensor is missing, or the anchors are not the release's twelve.
    """
    try:
        stem = theirs[STEM]
        first = theirs["backbone.res2.0.conv3.weight"]
        grouped = theirs["backbone.res2.0.conv2.weight"]
        attributes = theirs.get("roi_heads.box_predictor.attr_score.bias")
        classes = len(theirs["roi_heads.box_predictor.cls_score.bias"]) - 1
        num_anchors = len(theirs["proposal_generator.rpn_head.objectness_logits.bias"])
        rpn_width = len(theirs["proposal_generator.rpn_head.conv.bias"])
    except KeyError as error:
        raise WeightsError(f"{source} has no {error}; it is not bottom-up attention as detectron2 names it") from error
    depths = [
        _count(theirs, f"{part}.") for part in ("backbone.res2", "backbone.res3", "backbone.res4", "roi_heads.res5")
    ]
    config = DetectorConfig(
        stages=(depths[0], depths[1], depths[2], depths[3]),
        stem_width=len(stem),
        width=len(first),
        bottleneck=len(grouped),
        groups=len(grouped) // grouped.shape[1],
        rpn_width=rpn_width,
        num_classes=classes,
        num_attributes=0 if attributes is None else len(attributes) - 1,
    )
    expected = len(config.anchor_sizes) * len(config.anchor_ratios)
    if num_anchors == 2 * expected:
        raise WeightsError(
            f"{source} scores background and object of every anchor apart ({num_anchors} channels), as Caffe did; that "
            "form, with +1 boxes and background first, is not read. Get the weights of the detectron2 or LXMERT port"
        )
    if num_anchors != expected:
        raise WeightsError(
            f"{source} has {num_anchors} anchors a cell, the release {expected}; their sizes are not guessed: give the "
            "config, or a folder with the port's config.yaml"
        )
    return config


def check_anchors(state: Mapping[str, Tensor], computed: Tensor, source: str) -> tuple[str, ...]:
    """What there is to know about the anchors of a file: the file's are taken, whatever the config says.

    Raises:
        WeightsError: they are no boxes.
    """
    stored = state["rpn.cell_anchors"]
    if not bool(stored.isfinite().all()) or not bool((stored[:, 2:] > stored[:, :2]).all()):
        raise WeightsError(f"{source}: the anchors of {ANCHORS} are no boxes; the file is damaged, get it again")
    furthest = float((stored - computed).abs().max())
    if furthest <= 1e-3:
        return ()
    return (f"the stored anchors differ from those of the config by up to {furthest:.3g} pixels; the stored are taken",)


def _count(theirs: Mapping[str, Tensor], prefix: str) -> int:
    """How many different indices follow `prefix`."""
    return len({key.removeprefix(prefix).split(".")[0] for key in theirs if key.startswith(prefix)})
