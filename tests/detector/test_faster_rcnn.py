"""One's own detector, held against torchvision's on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close

from diptych.data.batch import Batch, ImagePart, ObjectPart
from diptych.detector import assembling, recipes
from diptych.detector.faster_rcnn import FasterRCNN
from diptych.detector.own_config import FasterRCNNConfig
from diptych.errors import UsageError
from diptych.objectives.detection import Detected, Detection

H, W = 64, 96
ALL = 10_000
"""More boxes than there are, so that none is left to chance."""
BOXES = torch.tensor(
    [[[4.0, 6, 40, 50], [50, 10, 80, 40], [0, 0, 0, 0]], [[20, 20, 70, 60], [1, 1, 9, 9], [60, 2, 95, 30]]]
)


def pictures(num: int = 2, height: int = H, width: int = W) -> Tensor:
    return torch.randint(0, 256, (num, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def objects() -> ObjectPart:
    """Two in the first picture, three in the second."""
    mask = torch.tensor([[True, True, False], [True, True, True]])
    attributes = torch.zeros(2, 3, 4, dtype=torch.bool)
    attributes[0, 0, 1] = attributes[1, 2, 0] = attributes[1, 2, 3] = True
    return ObjectPart(
        boxes=BOXES,
        mask=mask,
        labels=torch.tensor([[2, 0, 0], [1, 1, 0]]),
        attributes=attributes,
        crowd=torch.zeros_like(mask),
        seeds=(5, 6),
    )


def batch(**more: Any) -> Batch:
    return Batch(keys=("a", "b"), group=torch.arange(2), image=ImagePart(pixels=pictures()), objects=objects(), **more)


def model_of(config: FasterRCNNConfig, seed: int = 3) -> FasterRCNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FasterRCNN(config).eval()
        for name, parameter in model.named_parameters():
            if "bbox_pred" in name or "cls_" in name:  # else nearly nothing moves, and all classes are as likely
                torch.nn.init.normal_(parameter, std=0.3)
    return model


def theirs(model: FasterRCNN, assembled: Callable[[FasterRCNNConfig], Any] = assembling.over_a_pyramid) -> Any:
    """torchvision's own detector of the same parts and weights, which takes pictures as they are."""
    other = assembled(model.config)
    missing = other.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    other.transform.min_size, other.transform.max_size = (H,), 10 * W
    return other


def as_theirs(pixels: Tensor) -> list[Tensor]:
    return list(pixels.float() / 255)


def test_what_is_found_is_what_torchvision_finds(config: FasterRCNNConfig) -> None:
    model = model_of(config)
    found = model(batch()).found
    for mine, other in zip(found, theirs(model).eval()(as_theirs(pictures())), strict=True):
        assert len(mine.boxes) == len(other["boxes"]) > 5
        assert_close(torch.from_numpy(mine.scores), other["scores"].detach(), atol=1e-5, rtol=1e-4)
        assert_close(torch.from_numpy(mine.boxes), other["boxes"].detach(), atol=1e-3, rtol=1e-4)
        assert_close(torch.from_numpy(mine.labels), other["labels"] - 1)


def test_losses_and_gradients_are_torchvisions_where_every_box_is_drawn(config: FasterRCNNConfig) -> None:
    """Its means run over all boxes of a batch, ours over a picture's: one picture is alike under both."""
    config = replace(
        config, anchors_drawn=ALL, regions_drawn=ALL, attributes=(), attribute_fields=(), freeze_norms=True
    )
    model = model_of(config).train()
    one = batch().rows(1, 2)
    loss = Detection().loss(model, replace(one, objects=replace(one.objects, attributes=torch.zeros(1, 3, 0))), {})  # type: ignore[arg-type]
    loss.divided(Detection().counts(one, {})).backward()
    other = theirs(model).train()
    other.rpn.fg_bg_sampler.batch_size_per_image = other.roi_heads.fg_bg_sampler.batch_size_per_image = ALL
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    given = [{"boxes": BOXES[1], "labels": torch.tensor([2, 2, 1])}]
    expected = other(as_theirs(pictures()[1:]), given)
    sum(expected.values()).backward()
    names = {"rpn_class": "loss_objectness", "rpn_box": "loss_rpn_box_reg", "roi_class": "loss_classifier"}
    for mine, name in (names | {"roi_box": "loss_box_reg"}).items():
        assert_close(loss.terms[mine].total, expected[name], atol=1e-5, rtol=1e-4)
    others = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert_close(
            parameter.grad, others[name].grad, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_pictures_of_unequal_sizes_do_not_touch_each_other(config: FasterRCNNConfig) -> None:
    model = model_of(config)
    padded = torch.full((3, 3, 64, 96), 77, dtype=torch.uint8)
    sizes = ((64, 80), (48, 96), (64, 80))
    alone = [pictures(1, *size)[0] for size in sizes]
    for row, picture in enumerate(alone):
        padded[row, :, : picture.shape[1], : picture.shape[2]] = picture
    image = ImagePart(pixels=padded, sizes=sizes)
    together = model(Batch(keys=("a", "b", "c"), group=torch.arange(3), image=image))
    for row, picture in enumerate(alone):
        single = model(Batch(keys=("a",), group=torch.arange(1), image=ImagePart(pixels=picture[None])))
        assert_close(together.objectness[row], single.objectness[0], atol=1e-5, rtol=1e-4)
        assert_close(together.found[row].boxes, single.found[0].boxes, atol=1e-3, rtol=1e-4)


def test_what_is_drawn_hangs_on_the_pictures_seed_alone(config: FasterRCNNConfig) -> None:
    model = model_of(replace(config, anchors_drawn=20, regions_drawn=9))
    torch.manual_seed(0)
    whole, second = model(batch()), model(batch().rows(1, 2))
    for stage in ("anchors", "regions"):
        both, one = vars(whole)[stage], vars(second)[stage]
        assert_close(both.labels[both.row == 1], one.labels, atol=0, rtol=0)
        assert_close(both.logits[both.row == 1], one.logits, atol=1e-5, rtol=1e-4)
    other = batch()
    other = replace(other, objects=replace(other.objects, seeds=(5, 7)))
    drawn = [model(of).anchors.logits for of in (batch(), other)]
    assert torch.equal(drawn[0][:20], drawn[1][:20]) and not torch.equal(drawn[0][20:], drawn[1][20:])


def test_a_crowd_teaches_nothing(config: FasterRCNNConfig) -> None:
    model, whole = model_of(config), batch()
    crowd = torch.tensor([[True, True, False], [False, False, False]])
    seen: Detected = model(replace(whole, objects=replace(objects(), crowd=crowd)))
    assert seen.anchors is not None and seen.regions is not None
    for drawn in (seen.anchors, seen.regions):
        assert set(drawn.object_row.tolist()) == {1} and not drawn.labels[drawn.row == 0].any()


def test_an_objects_attributes_share_evenly_and_none_is_one(config: FasterRCNNConfig) -> None:
    regions = model_of(replace(config, regions_drawn=ALL))(batch()).regions
    right = {tuple(row) for row in regions.right_attributes.tolist()}
    assert {(0, 0, 1, 0, 0), (0, 0.5, 0, 0, 0.5), (1, 0, 0, 0, 0)} == right


def test_pictures_without_objects_still_teach_what_is_nothing(config: FasterRCNNConfig) -> None:
    model = model_of(config)
    empty = replace(objects(), mask=torch.zeros(2, 3, dtype=torch.bool))
    loss = Detection().loss(model, replace(batch(), objects=empty), {})  # type: ignore[arg-type]
    costs = {name: term.total.item() for name, term in loss.terms.items()}
    assert costs["roi_box"] == costs["rpn_box"] == costs["attributes"] == 0
    assert costs["rpn_class"] > 0 and costs["roi_class"] > 0


@pytest.mark.parametrize(
    ("recipe", "build"),
    [("coco", "fasterrcnn_resnet50_fpn"), ("coco_v2", "fasterrcnn_resnet50_fpn_v2")],
)
def test_tensors_are_named_and_shaped_as_torchvisions(recipe: str, build: str) -> None:
    config = replace(recipes.named(recipe).model, classes=tuple(map(str, range(90))))
    with torch.device("meta"):
        mine = FasterRCNN(config).state_dict()
        other = vars(torchvision.models.detection)[build](weights=None, weights_backbone=None).state_dict()
    counted = {name for name in other if name.endswith("num_batches_tracked") and name not in mine}
    assert not counted or recipe == "coco", "norms are frozen there, and count nothing"
    assert {name: value.shape for name, value in mine.items()} == {
        name: value.shape for name, value in other.items() if name not in counted
    }


def test_c4_reads_one_map_of_stride_16_and_gives_the_last_stages_mean() -> None:
    config = replace(recipes.c4().model, backbone="resnet50", classes=("a", "b"), pool_side=4)
    model = model_of(config)
    with torch.inference_mode():
        seen = model.look(pictures(1))
        looked = model.region_heads(seen, [BOXES[1]])
    assert seen.maps["0"].shape == (1, 1024, H // 16, W // 16)
    assert seen.anchors.shape == (15 * (H // 16) * (W // 16), 4)
    assert looked.features.shape == (3, 2048) and float(looked.features.min()) >= 0
    learning = {name.split(".")[0] for name, one in model.backbone.named_parameters() if one.requires_grad}
    assert learning == {"layer2", "layer3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor_sizes": ((8,), (16,))}, "has 2 levels"),
        ({"form": "c4", "anchor_sizes": ((8,),)}, "needs the stages of a ResNet"),
        ({"feature_width": 30}, "multiple of 8"),
        ({"levels": 5, "anchor_sizes": ((8,),) * 6}, "the backbone has 4 stages"),
    ],
)
def test_sizes_that_do_not_fit_are_told(config: FasterRCNNConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FasterRCNN(replace(config, **change))


def test_norms_at_rest_stay_so_in_training(config: FasterRCNNConfig) -> None:
    for frozen in (True, False):
        model = FasterRCNN(replace(config, freeze_norms=frozen)).train()
        modes = {module.training for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)}
        assert modes == {not frozen} and model.training


def test_found_boxes_lie_within_the_picture(config: FasterRCNNConfig) -> None:
    for one in model_of(config)(batch()).found:
        assert np.all(one.boxes >= 0) and np.all(one.boxes[:, 2] <= W) and np.all(one.boxes[:, 3] <= H)
        assert np.all(np.diff(one.scores) <= 0) and set(one.labels) <= {0, 1, 2}
