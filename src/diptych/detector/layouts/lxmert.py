"""The LXMERT port's folder: `config.yaml` beside `pytorch_model.bin`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.detector.inputs import CAFFE_MEAN, Preprocessing
from diptych.detector.model import DetectorConfig
from diptych.detector.selection import LxmertRule
from diptych.errors import WeightsError
from diptych.overrides import flat

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "pytorch_model.bin"
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

_READ: Mapping[str, Any] = {
    "MODEL.PIXEL_MEAN": CAFFE_MEAN,
    "MODEL.PIXEL_STD": (1.0, 1.0, 1.0),
    "MODEL.MAX_POOL": True,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "MIN_DETECTIONS": 36,
    "MAX_DETECTIONS": 36,
    "RESNETS.DEPTH": 101,
    "RESNETS.STEM_OUT_CHANNELS": 64,
    "RESNETS.RES2_OUT_CHANNELS": 256,
    "RESNETS.NUM_GROUPS": 1,
    "RESNETS.WIDTH_PER_GROUP": 64,
    "RESNETS.STRIDE_IN_1X1": True,
    "ANCHOR_GENERATOR.SIZES": ((64, 128, 256, 512),),
    "ANCHOR_GENERATOR.ASPECT_RATIOS": ((0.5, 1.0, 2.0),),
    "ANCHOR_GENERATOR.OFFSET": 0.0,
    "PROPOSAL_GENERATOR.HIDDEN_CHANNELS": 512,
    "PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "RPN.NMS_THRESH": 0.7,
    "RPN.PRE_NMS_TOPK_TEST": 6000,
    "RPN.POST_NMS_TOPK_TEST": 300,
    "RPN.BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
    "ROI_HEADS.NUM_CLASSES": 1600,
    "ROI_HEADS.NMS_THRESH_TEST": (0.5, 0.6, 0.7, 0.8, 0.9),
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "ROI_BOX_HEAD.RES5HALVE": False,
    "ROI_BOX_HEAD.ATTR": True,
    "ROI_BOX_HEAD.NUM_ATTRS": 400,
    "ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
}
"""What is read, with what is taken where a file leaves it out."""
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "SIZE_DIVISIBILITY": (0,),
    "RESNETS.NORM": ("BN", "FrozenBN"),
    "RESNETS.OUT_FEATURES": (["res4"],),
    "RPN.IN_FEATURES": (["res4"],),
    "ROI_HEADS.IN_FEATURES": (["res4"],),
    "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": (False,),
}
"""What has these values only."""
_REASONS = {
    "INPUT.FORMAT": "the weights want BGR; the port gave them BGR or RGB by where a picture came from",
    "ROI_HEADS.SCORE_THRESH_TEST": "the port read it and never applied it",
    "PAD_VALUE": "pictures are computed one by one, without padding",
}
_OTHERWISE = "of training, or of networks other than this one"


@dataclass(frozen=True)
class Settings:
    """A folder's config as ours."""

    config: DetectorConfig
    preprocessing: Preprocessing
    rule: LxmertRule
    ignored: Mapping[str, str]
    """Settings that were left out, with the reason of each."""


def read_folder_settings(folder: Path) -> Settings:
    """Our settings of a folder's `config.yaml`.

    Raises:
        WeightsError: it cannot be read, is no YAML, or has what this network does not have.
    """
    import yaml

    file = folder / CONFIG_FILE
    try:
        published = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise WeightsError(f"{file} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(published, Mapping):
        raise WeightsError(f"{file} holds {type(published).__name__}; expected settings by name")
    return read_settings(published, str(file))


def read_settings(published: Mapping[str, Any], where: str) -> Settings:
    """Our settings of the port's, whose names are in capitals or not.

    Raises:
        WeightsError: a setting has a value that this network does not have.
    """
    found = {name.upper(): value for name, value in flat(published).items()}
    for name, values in _FIXED.items():
        if name in found and found[name] not in values:
            raise WeightsError(f"{where}: {name} is {found[name]!r}; expected {' or '.join(map(repr, values))}")
    try:
        return _settings({name: found.get(name, default) for name, default in _READ.items()}, _ignored(found))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{where} has a setting of an unknown form ({error!r}); expected the port's own") from error


def _settings(found: Mapping[str, Any], ignored: Mapping[str, str]) -> Settings:
    (sizes,), (ratios,) = found["ANCHOR_GENERATOR.SIZES"], found["ANCHOR_GENERATOR.ASPECT_RATIOS"]
    groups, thresholds = found["RESNETS.NUM_GROUPS"], found["ROI_HEADS.NMS_THRESH_TEST"]
    config = DetectorConfig(
        stages=DEPTHS[found["RESNETS.DEPTH"]],
        stem_width=found["RESNETS.STEM_OUT_CHANNELS"],
        width=found["RESNETS.RES2_OUT_CHANNELS"],
        bottleneck=groups * found["RESNETS.WIDTH_PER_GROUP"],
        groups=groups,
        stride_in_1x1=found["RESNETS.STRIDE_IN_1X1"],
        caffe_pool=found["MODEL.MAX_POOL"],
        anchor_sizes=_floats(sizes),
        anchor_ratios=_floats(ratios),
        anchor_offset=float(found["ANCHOR_GENERATOR.OFFSET"]),
        rpn_width=found["PROPOSAL_GENERATOR.HIDDEN_CHANNELS"],
        rpn_weights=_floats(found["RPN.BBOX_REG_WEIGHTS"]),  # type: ignore[arg-type]
        min_side=float(found["PROPOSAL_GENERATOR.MIN_SIZE"]),
        pre_nms=found["RPN.PRE_NMS_TOPK_TEST"],
        rpn_nms=float(found["RPN.NMS_THRESH"]),
        post_nms=found["RPN.POST_NMS_TOPK_TEST"],
        pool_size=found["ROI_BOX_HEAD.POOLER_RESOLUTION"],
        halve_res5=found["ROI_BOX_HEAD.RES5HALVE"],
        num_classes=found["ROI_HEADS.NUM_CLASSES"],
        box_weights=_floats(found["ROI_BOX_HEAD.BBOX_REG_WEIGHTS"]),  # type: ignore[arg-type]
        num_attributes=found["ROI_BOX_HEAD.NUM_ATTRS"] if found["ROI_BOX_HEAD.ATTR"] else 0,
    )
    preprocessing = Preprocessing(
        shorter=found["INPUT.MIN_SIZE_TEST"],
        longer=found["INPUT.MAX_SIZE_TEST"],
        resize="size",
        mean=_floats(found["MODEL.PIXEL_MEAN"]),  # type: ignore[arg-type]
        std=_floats(found["MODEL.PIXEL_STD"]),  # type: ignore[arg-type]
    )
    rule = LxmertRule(
        min_boxes=found["MIN_DETECTIONS"],
        max_boxes=found["MAX_DETECTIONS"],
        nms=_floats(thresholds if isinstance(thresholds, list | tuple) else [thresholds]),
    )
    return Settings(config, preprocessing, rule, ignored)


def _ignored(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: _REASONS.get(name, _OTHERWISE) for name in found if name not in _READ and name not in _FIXED}


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
