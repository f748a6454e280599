"""torchvision's files: read strictly, and as a beginning for one's own classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from diptych import systems
from diptych.detector import recipes
from diptych.detector.faster_rcnn import FasterRCNN
from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.torchvision_weights import COCO, LAYOUT, fitted, identify, read_weights
from diptych.errors import WeightsError
from diptych.systems.rooms import system_of


def published(num_classes: int = 91) -> dict[str, Tensor]:
    """The tensors of torchvision's first version; drawn, since its own are not at hand."""
    torch.manual_seed(0)
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=num_classes
    )
    return {name: value.clone() for name, value in model.state_dict().items() if "num_batches" not in name}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchvision") / "fasterrcnn_resnet50_fpn_coco.safetensors"
    save_file(published(), path)
    return path


@pytest.mark.slow
def test_the_whole_file_finds_its_place_but_ten_columns(file: Path) -> None:
    assert identify(file) == LAYOUT and system_of(file) == "detector"
    found = read_weights(file)
    assert (len(found.config.classes), found.config.backbone) == (80, "resnet50")
    assert found.config.classes[:3] == ("person", "bicycle", "car") and "N/A" not in found.config.classes
    model = FasterRCNN(found.config)
    model.load_state_dict(found.state)
    theirs = published()
    row = COCO.index("toothbrush")
    scores, boxes = model.roi_heads.box_predictor.cls_score, model.roi_heads.box_predictor.bbox_pred
    assert torch.equal(scores.weight[80], theirs["roi_heads.box_predictor.cls_score.weight"][row])
    assert torch.equal(boxes.bias[4 * 80 :], theirs["roi_heads.box_predictor.bbox_pred.bias"][4 * row : 4 * row + 4])
    assert torch.equal(scores.weight[0], theirs["roi_heads.box_predictor.cls_score.weight"][0])


@pytest.mark.slow
def test_what_is_missing_or_of_another_shape_is_named(file: Path, tmp_path: Path) -> None:
    for change, message in (
        ({"rpn.head.cls_logits.bias": torch.zeros(4)}, r"rpn\.head\.cls_logits\.bias: \(4,\) there, \(3,\) here"),
        ({"extra.weight": torch.zeros(1)}, r"extra\.weight: \(1,\) there, None here"),
    ):
        save_file(published() | change, tmp_path / "changed.safetensors")
        with pytest.raises(WeightsError, match=message):
            read_weights(tmp_path / "changed.safetensors")


def test_other_classes_need_names(tmp_path: Path) -> None:
    few = {
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(4, 1024),
        "roi_heads.box_predictor.bbox_pred.weight": torch.zeros(16, 1024),
        "backbone.fpn.inner_blocks.0.0.weight": torch.zeros(1),
    }
    save_file(few, tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match="knows 3 classes, and COCO's file has 90"):
        read_weights(tmp_path / "own.safetensors")


def test_files_of_others_are_not_taken(tmp_path: Path) -> None:
    save_file({"visual.proj": torch.zeros(2)}, tmp_path / "clip.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"no")
    assert [identify(tmp_path / name) for name in ("clip.safetensors", "broken.pth", "none.pt")] == [None] * 3


def test_another_tables_classes_have_predictors_drawn_anew(config: FasterRCNNConfig) -> None:
    state = FasterRCNN(config).state_dict()
    same, its, fresh = fitted(state, config, replace(config, shorter_side=99, proposals=7))
    assert (set(same), fresh, its.shorter_side, its.proposals) == (set(state), (), 99, 7)
    wanted = replace(config, classes=("cup", "yak"), attributes=("a",))
    kept, its, fresh = fitted(state, config, wanted)
    assert its == wanted and fresh == ("roi_heads.box_predictor.", "attributes.")
    assert set(state) - set(kept) == {name for name in state if name.startswith(fresh)} != set()
    kept, _, fresh = fitted(state, config, replace(config, attributes=("z",)))
    assert fresh == ("attributes.",) and "roi_heads.box_predictor.cls_score.weight" in kept
    _, its, _ = fitted(state, config, replace(wanted, pool_side=9))
    assert its.pool_side == config.pool_side, "what weights mean something under is theirs, and told to differ"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["coco", "coco_v2", "c4"])
def test_a_resnet_of_imagenet_is_a_beginning(recipe: str, tmp_path: Path) -> None:
    run = systems.recipe("detector", recipe)
    deep = run.model.backbone == "resnet101"
    torch.manual_seed(0)
    body = torchvision.models.resnet101() if deep else torchvision.models.resnet50()
    torch.save(body.state_dict(), tmp_path / "resnet.pth")
    run = replace(run, model=replace(run.model, classes=("cup", "bus")))
    job = systems.build(run, init=tmp_path / "resnet.pth")
    model: FasterRCNN = job.model  # type: ignore[assignment]
    own = dict(model.state_dict())
    expected = body.state_dict()
    at = "backbone.body." if run.model.form == "fpn" else "backbone."
    last = "backbone.body." if run.model.form == "fpn" else "roi_heads.box_head."
    assert_close(own[f"{at}layer2.1.conv2.weight"], expected["layer2.1.conv2.weight"], atol=0, rtol=0)
    assert_close(own[f"{last}layer4.0.bn1.running_var"], expected["layer4.0.bn1.running_var"], atol=0, rtol=0)
    assert job.origin == str(tmp_path / "resnet.pth")


@pytest.mark.slow
def test_a_resnet_of_another_depth_is_told(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "resnet.pth")
    run = recipes.c4()
    with pytest.raises(WeightsError, match=r"model\.backbone: 'resnet50' there, 'resnet101' here"):
        systems.build(replace(run, model=replace(run.model, classes=("cup",))), init=tmp_path / "resnet.pth")
