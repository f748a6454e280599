"""`diptych regions train`: which recipe a table gets, and what a run of it leaves."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli.regions_train import fitting_recipe
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "scenes"
    draw_scenes(folder, easy(num=64, seed=1, size_px=40), workers=1)
    return folder


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_small_pictures_get_the_scenes_recipe(scenes: Path, tmp_path: Path) -> None:
    assert fitting_recipe(open_table(scenes)) == "scenes"
    with TableWriter(tmp_path / "photos") as writer:
        writer.add("train", key="a", image=b"no picture", texts=["a"])
        writer.add("train", key="b", image=picture(200, 300), texts=["b"])
    assert fitting_recipe(open_table(tmp_path / "photos")) == "coco"


@pytest.mark.slow
def test_a_detector_is_trained_evaluated_and_gone_on_with(
    exit_code: Callable[..., int], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "run", ("training.steps=2", "training.batch=4", "training.eval_rows=4", "inputs.workers=0")
    settings = [word for one in few for word in ("--set", one)]
    assert exit_code("regions", "train", scenes, "--recipe", "tiny", "--out", out, "--device", "cpu", *settings) == 0
    told = capsys.readouterr().out
    assert "Average precision is" in told
    assert f"Next: diptych regions extract {scenes} --detector own:{out} --out {out}-regions" in told
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"map", "map50", "recall_at_36", "recall_at_100"} <= metrics["results"].keys()
    page = (out / "report.html").read_text()
    assert "Precision while training" in page and "Recall while training" not in page
    assert "Average precision at IoU 0.50 of each class" in page
    assert exit_code("regions", "train", scenes, "--out", out, "--resume", "--device", "cpu") == 0
    found = tmp_path / "found.json"
    asked = ("--task", "detection", "--data", scenes, "--split", "train", "--limit", "9", "--json", found)
    assert exit_code("evaluate", out, *asked, "--device", "cpu") == 0
    assert json.loads(found.read_text())["details"]["num_pictures"] == 9
    assert exit_code("weights", "identify", out) == 0
    assert "Faster R-CNN, conv fpn" in capsys.readouterr().out


SMALL = (
    "model.shorter_side=48", "model.longer_side=64", "model.proposals=20", "model.proposals_training=20",
    "model.regions_drawn=8", "training.epochs=none", "training.steps=1", "training.batch=2", "training.micro_batch=2",
    "training.precision=float32", "training.eval_every=none", "training.eval_rows=2", "inputs.workers=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "network"), [("coco", "resnet50 fpn"), ("coco_v2", "resnet50_v2 fpn"), ("c4", "resnet101 c4")]
)
def test_the_recipes_for_photos_take_a_step(
    exit_code: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    network: str,
) -> None:
    """Whole networks, on pictures and numbers of boxes that are small."""
    out = tmp_path / "run"
    settings = [word for one in SMALL for word in ("--set", one)]
    assert exit_code("regions", "train", scenes, "--recipe", recipe, "--out", out, "--device", "cpu", *settings) == 0
    told = capsys.readouterr()
    assert "Note: the ResNet's norms are frozen" in told.err.replace("\n", " ")
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines() if "loss" in line]
    assert any(math.isfinite(step["loss"]) for step in steps if "loss" in step)
    assert exit_code("weights", "identify", out) == 0
    told = capsys.readouterr()
    assert f"Faster R-CNN, {network}" in told.out and f"--detector own:{out}" in told.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "scene"], "there is no recipe 'scene'; did you mean 'scenes'"),
        (["--set", "model.pooling=3"], "did you mean 'model.pool_side'"),
        (["--set", "model.attribute_fields=size,shape"], "have no field 'shape'; they have name, label, colour"),
        (["--set", "training.eval_split=none_such"], "none_such"),
    ],
)
def test_mistakes_are_one_line(
    exit_code: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert exit_code("regions", "train", scenes, "--out", tmp_path / "run", *words) != 0
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_table_without_boxes_is_told(
    exit_code: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TableWriter(tmp_path / "table") as writer:
        for split in ("train", "validation"):
            writer.add(split, key=split, image=picture(9, 9), texts=["a"])
    assert exit_code("regions", "train", tmp_path / "table", "--out", tmp_path / "run") == 1
    assert "no column 'objects' with boxes" in capsys.readouterr().err
