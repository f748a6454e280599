"""Detectors so small that they run in milliseconds: of bottom-up attention, and one's own with scenes to learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.detector import recipes
from diptych.detector.faster_rcnn import FasterRCNN
from diptych.detector.inputs import Preprocessing
from diptych.detector.learning_inputs import LearningInputs
from diptych.detector.model import C4Detector, DetectorConfig
from diptych.detector.own import OwnDetector
from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.resnet import FrozenConv
from diptych.detector.selection import Rule
from diptych.detector.weights import Release
from diptych.train.run import InputSettings

CONFIG = DetectorConfig(
    stages=(1, 2, 1, 2),
    stem_width=4,
    width=8,
    bottleneck=3,
    anchor_sizes=(16.0, 32.0),
    anchor_ratios=(0.5, 1.0, 2.0),
    rpn_width=6,
    pre_nms=50,
    post_nms=9,
    num_classes=5,
    num_attributes=7,
)
PREPROCESSING = Preprocessing(shorter=48, longer=80)


def random_detector(config: DetectorConfig) -> C4Detector:
    """Norms that do something, and predictions that differ from region to region."""
    torch.manual_seed(0)
    model = C4Detector(config).eval()
    for module in model.modules():
        if isinstance(module, FrozenConv):
            module.norm.weight.uniform_(0.5, 1.0)
            module.norm.bias.normal_(std=0.1)
            module.norm.running_mean.normal_(std=0.1)
            module.norm.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.rpn.objectness.weight, std=0.5)
    torch.nn.init.normal_(model.rpn.deltas.weight, std=0.05)
    torch.nn.init.normal_(model.predictor.classes.weight, std=0.5)
    torch.nn.init.normal_(model.predictor.boxes.weight, std=0.1)
    return model


@pytest.fixture(scope="session")
def make_detector():
    """A function: a network with these settings of the config changed; always with the same weights."""

    def make(**changes) -> C4Detector:
        return random_detector(replace(CONFIG, **changes))

    return make


@pytest.fixture(scope="session")
def make_release():
    """A function: a release with these settings of the config changed."""

    def make(**changes) -> Release:
        config = replace(CONFIG, **changes)
        return Release(
            config=config,
            preprocessing=PREPROCESSING,
            state=random_detector(config).state_dict(),
            classes=tuple(f"thing {index}" for index in range(config.num_classes)),
            attributes=tuple(f"look {index}" for index in range(config.num_attributes)),
            source="random",
        )

    return make


@pytest.fixture
def release(make_release) -> Release:
    return make_release()


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("detector") / "scenes"
    draw_scenes(folder, easy(num=64, seed=5, size_px=40), workers=1)
    return open_table(folder)


@pytest.fixture
def config() -> FasterRCNNConfig:
    """Of one's own: of the tiny recipe, with three classes and four attributes."""
    return replace(
        recipes.tiny().model,
        classes=("cup", "bus", "owl"),
        attribute_fields=("words",),
        attributes=("a", "b", "c", "d"),
    )


@pytest.fixture(scope="session")
def make_own():
    """A function: one's own detector of such a config and rule, with predictions that differ from box to box."""

    def make(config: FasterRCNNConfig, rule: Rule | None = None, seed: int = 3) -> OwnDetector:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = FasterRCNN(config)
            for name, parameter in model.named_parameters():
                if "bbox_pred" in name or "cls_" in name:
                    torch.nn.init.normal_(parameter, std=0.3)
        inputs = LearningInputs(config, InputSettings(transform="none"))
        return OwnDetector(model, inputs, torch.device("cpu"), "mine", rule)

    return make
