"""`diptych weights` of bottom-up attention: its three published layouts, and what is converted with names."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from diptych.data.table_writer import TableWriter
from diptych.detector.layouts import detectron2
from diptych.detector.layouts.lxmert import read_settings
from diptych.detector.model import C4Detector

SETTINGS = {
    "RESNETS": {"DEPTH": 50, "STEM_OUT_CHANNELS": 4, "RES2_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 3},
    "PROPOSAL_GENERATOR": {"HIDDEN_CHANNELS": 6},
    "ROI_HEADS": {"NUM_CLASSES": 5, "SCORE_THRESH_TEST": 0.2},
    "ROI_BOX_HEAD": {"NUM_ATTRS": 3},
    "INPUT": {"MIN_SIZE_TEST": 48, "MAX_SIZE_TEST": 80},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same small detector in each layout, and the files of its names."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published")
    state = C4Detector(read_settings(SETTINGS, "test").config).state_dict()
    theirs: dict[str, Tensor] = detectron2.KEYS.to_theirs(state)
    theirs |= {name.replace("running_var", "num_batches_tracked"): torch.tensor(0) for name in theirs if "_var" in name}
    (folder / "port").mkdir()
    (folder / "port" / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    torch.save(theirs, folder / "port" / "pytorch_model.bin")
    torch.save({"model": theirs}, folder / "theirs.pth")
    arrays = {name: tensor.numpy() for name, tensor in theirs.items() if name != detectron2.ANCHORS}
    (folder / "theirs.pkl").write_bytes(pickle.dumps({"model": arrays}))
    (folder / "objects.txt").write_text("yolk\nstop sign,stopsign\ncat\ndog\nman")
    (folder / "looks.txt").write_text("red\nold\nwet")
    return {"lxmert": folder / "port", "pickle": folder / "theirs.pkl", "pth": folder / "theirs.pth"}


@pytest.mark.parametrize(("name", "layout"), [("lxmert", "lxmert"), ("pickle", "detectron2"), ("pth", "detectron2")])
def test_identify_names_the_three_published_layouts(
    exit_code: Callable[..., int],
    name: str,
    layout: str,
    sources: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code("weights", "identify", sources[name], "--json", tmp_path / "found.json") == 0
    shown = capsys.readouterr().out
    for word in (layout, "bottom-up attention", "ResNet-50, blocks 3 4 6 3", "5, without names", "64 wide"):
        assert word in shown
    assert "and 50 more: a count of training batches; the norms stand still" in shown
    assert ("SCORE_THRESH_TEST: the port read it and never applied it" in shown) == (name == "lxmert")
    assert "--to diptych" in shown.rpartition("Next: diptych weights convert")[2]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["layout"], found["config"]["model"]["num_attributes"]) == (layout, 3)
    assert sum(name.endswith("num_batches_tracked") for name in found["ignored"]) == 53


@pytest.mark.slow
def test_extraction_says_once_what_it_leaves_out(
    exit_code: Callable[..., int], sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TableWriter(tmp_path / "table") as writer:
        for key in "ab":
            writer.add("train", key=key, image=picture(), texts=["a"])
    words = ("--detector", f"butd:{sources['lxmert']}", "--out", tmp_path / "regions", "--device", "cpu")
    assert exit_code("regions", "extract", tmp_path / "table", *words) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert said.count("a count of training batches; the norms stand still.") == 1
    assert said.count("ROI_HEADS.SCORE_THRESH_TEST: the port read it and never applied it.") == 1


def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((60, 40), 80).save(file, "PNG")
    return file.getvalue()


def test_anchors_that_are_not_the_configs_are_noted(
    exit_code: Callable[..., int], sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = torch.load(sources["pth"], weights_only=True)["model"]
    theirs[detectron2.ANCHORS] = theirs[detectron2.ANCHORS] + 0.5
    torch.save(theirs, tmp_path / "other.pth")
    assert exit_code("weights", "identify", tmp_path / "other.pth") == 0
    assert "Note: the stored anchors differ from those of the config by up to 0.5 pixels" in capsys.readouterr().out


def test_converted_once_with_its_names_it_is_read_with_them(
    exit_code: Callable[..., int], sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, names = tmp_path / "ours", sources["lxmert"].parent
    words = ("--classes", names / "objects.txt", "--attributes", names / "looks.txt")
    assert exit_code("weights", "convert", sources["pickle"], out, "--to", "diptych", *words) == 0
    assert f"--detector butd:{out}" in capsys.readouterr().out
    assert exit_code("weights", "identify", out) == 0
    shown = capsys.readouterr().out
    assert "5: yolk, stop sign, cat, dog, man" in shown and "3: red, old, wet" in shown
    assert f"Next: diptych regions extract DATA --detector butd:{out} --out REGIONS" in shown
    assert exit_code("weights", "convert", sources["pth"], tmp_path / "unnamed", "--to", "diptych") == 0
    assert "The 5 classes have no names" in capsys.readouterr().out


def test_what_goes_wrong_is_said(
    exit_code: Callable[..., int], sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sources["lxmert"].parent
    torch.save({"weight": torch.zeros(2)}, tmp_path / "clip.pt")
    (tmp_path / "typo.json").write_text('{"num_clases": 4}')
    a, clip = tmp_path / "a", tmp_path / "clip.pt"
    named = ("--to", "diptych", "--classes", names / "looks.txt")
    for arguments, code, message in (
        (("convert", sources["pth"], a, "--to", "open_clip"), 1, "is written as diptych alone"),
        (("convert", sources["pth"], a, *named), 1, "3 class names"),
        (("convert", clip, a, *named), 2, "is not bottom-up attention"),
        (("identify", sources["pth"], "--config", tmp_path / "typo.json"), 2, "did you mean 'model.num_classes'"),
        (("identify", clip), 1, "has no open_clip_config.json"),
    ):
        assert exit_code("weights", *arguments) == code
        said = capsys.readouterr().err.replace("\n", " ")
        assert message in said and said.count("Error: ") == 1
    assert not a.exists()
