"""Detectors by name: whose rule a preset, the command line and the release decide, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.detector.inputs import Preprocessing
from diptych.detector.model import C4Detector, DetectorConfig
from diptych.detector.weights import Release, write_release
from diptych.errors import UsageError, WeightsError
from diptych.prepare.presets import preset
from diptych.systems.detectors import NAMES, name_regions, named_detector
from diptych.systems.rooms import recipe
from diptych.train.run import plain_run

CONFIG = DetectorConfig(
    stages=(1, 1, 1, 1), stem_width=4, width=8, bottleneck=3, anchor_sizes=(16.0, 32.0), anchor_ratios=(1.0,),
    rpn_width=6, pre_nms=50, post_nms=12, num_classes=5, num_attributes=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("butd") / "weights"
    state = C4Detector(CONFIG).state_dict()
    source = Preprocessing(shorter=48, longer=80)
    write_release(folder, Release(config=CONFIG, preprocessing=source, state=state, source="random"))
    (folder.parent / "names.txt").write_text("\n".join(f"thing {row}" for row in range(5)), encoding="utf-8")
    return folder


def rule(weights: Path, name: str | None = None, *settings: str) -> str:
    found = named_detector(
        f"butd:{weights}", preset=None if name is None else preset(name), settings=settings, device="cpu"
    )
    assert (found.name, found.source) == ("butd", str(weights))
    return found.detector.spec.rule


def test_the_rule_is_the_releases_the_presets_or_the_one_that_is_set(weights: Path) -> None:
    assert rule(weights).startswith("lxmert(min=36, max=36")
    assert rule(weights, "uniter") == "butd(min=100, max=100, conf=0.2, nms=0.3)"
    assert rule(weights, "oscar") == "butd(min=10, max=100, conf=0.2, nms=0.3)"
    assert rule(weights, "fixed36").startswith("lxmert(min=36, max=36")
    assert (
        rule(weights, None, "rule=butd", "min_boxes=4", "confidence=0.5") == "butd(min=4, max=100, conf=0.5, nms=0.3)"
    )
    assert rule(weights, "oscar", "max_boxes=70") == "butd(min=10, max=70, conf=0.2, nms=0.3)"


def test_settings_that_do_not_fit_are_told(weights: Path) -> None:
    with pytest.raises(UsageError, match=r"the rule lxmert\(.* has no confidence"):
        rule(weights, None, "confidence=0.5")
    with pytest.raises(UsageError, match="confidence=7"):
        rule(weights, "oscar", "confidence=7")
    assert rule(weights, "fixed36", "max_boxes=5", "min_boxes=5").startswith("lxmert(min=5, max=5")
    with pytest.raises(UsageError, match="did you mean 'max_boxes'"):
        rule(weights, None, "maxboxes=5")
    with pytest.raises(UsageError, match="no rule of selection 'buttd'"):
        rule(weights, None, "rule=buttd")


def test_what_says_which_boxes_there_are_is_of_no_use_where_they_are_given(weights: Path) -> None:
    for words in (f"butd:{weights}", "own:x", "windows:x"):
        for idle in ("rule=butd", "max_boxes = 4", "scales=1"):
            with pytest.raises(UsageError, match=f"--set {idle} says which boxes are found"):
                named_detector(words, settings=[idle], boxes_given=True)
    found = named_detector(
        f"butd:{weights}", settings=[f"classes={weights.parent / 'names.txt'}"], boxes_given=True, device="cpu"
    )
    assert found.detector.spec.classes[0] == "thing 0"


@pytest.mark.parametrize(
    ("name", "system", "told"),
    [
        ("butd", "detector", "--detector own:"),
        ("butd", "clip", "--detector windows:.* or --detector grid:"),
        ("own", "clip", "--detector windows:"),
        ("grid", "detector", "--detector own:"),
    ],
)
def test_a_run_goes_by_the_name_of_its_kind(name: str, system: str, told: str, tmp_path: Path) -> None:
    run = plain_run(recipe(system, "tiny"))
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(WeightsError, match=f"is a run of {system}, not for {name}:; expected {told}"):
        named_detector(f"{name}:{tmp_path}")


def test_where_there_is_no_detector_only_detectors_are_expected(tmp_path: Path) -> None:
    for where, told in ((tmp_path, "holds no detector"), (tmp_path / "none", "there is no file or folder")):
        with pytest.raises(WeightsError, match=told) as error:
            named_detector(f"own:{where}")
        assert "run of `diptych regions train`" in str(error.value) and "CLIP" not in str(error.value)


def test_a_word_that_comes_twice_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cup\nkey\ncup\n", encoding="utf-8")
    detector: Any = None
    with pytest.raises(UsageError, match="'cup' stands in it twice"):
        name_regions(detector, str(tmp_path / "no CLIP"), tmp_path / "words.txt")


def test_names_come_from_files_where_the_weights_have_none(weights: Path) -> None:
    spec = named_detector(
        f"butd:{weights}", settings=[f"classes={weights.parent / 'names.txt'}"], device="cpu"
    ).detector.spec
    assert spec.classes[:2] == ("thing 0", "thing 1")
    with pytest.raises(WeightsError):
        named_detector(f"butd:{weights}", settings=[f"attributes={weights.parent / 'names.txt'}"], device="cpu")


def test_regions_have_soft_labels_where_they_are_asked_for(weights: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    detector = named_detector(f"butd:{weights}", preset=preset("uniter"), soft_labels=True, device="cpu").detector
    (regions,) = detector.detect([picture])
    assert regions.soft_labels is not None and regions.soft_labels.shape == (len(regions), 6)
    with pytest.raises(UsageError, match="windows have no classes of their own"):
        named_detector("windows:anything", soft_labels=True, device="cpu")


def test_an_unknown_detector_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="There are: " + ", ".join(NAMES)):
        named_detector("bottom-up:x")
    for words in ("butd", "butd:", "grid"):
        with pytest.raises(UsageError, match="says no weights; expected butd:PATH"):
            named_detector(words)
