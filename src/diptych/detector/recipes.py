"""Runs that train one's own detector: small ones for the built-in scenes, and for photos."""

from __future__ import annotations

from dataclasses import replace

from diptych.detector.own_config import FasterRCNNConfig
from diptych.errors import UsageError, unknown
from diptych.objectives.detection import Detection
from diptych.train.run import InputSettings, OptimSettings, Run, TrainingSettings

NAMES = ("tiny", "scenes", "coco", "coco_v2", "c4")


def named(name: str) -> Run:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "tiny":
            return tiny()
        case "scenes":
            return scenes()
        case "coco":
            return coco()
        case "coco_v2":
            return coco_v2()
        case "c4":
            return c4()
        case _:
            raise UsageError(unknown("recipe", name, NAMES))


def scenes() -> Run:
    """A small detector of the built-in scenes, with their colours, textures and sizes as attributes; not of a paper.

    Thirteen minutes with one thread on two busy cores, float32. Should reach an average precision of 98 % at IoU 0.50,
    and 87 % over 0.50 to 0.95; and features of which `diptych regions probe` tells textures 92 %, the rest better.
    """
    model = FasterRCNNConfig(
        attribute_fields=("colour", "texture", "size"),
        backbone="conv",
        widths=(24, 48, 96, 128),
        levels=3,
        pyramid_width=64,
        freeze_norms=False,
        shorter_side=64,
        longer_side=128,
        anchor_sizes=((14,), (20,), (34,), (52,)),
        anchors_drawn=64,
        proposals=50,
        proposals_training=50,
        regions_drawn=16,
        pool_side=5,
        pool_samples=1,
        # Every box is pooled at stride 4: stripes are 7 pixels apart, 5 on small things, and a map of stride 8 or 16
        # blurs them. With boxes pooled there, a linear probe found no texture in the features (33 % of three).
        pool_scale=512,
        feature_width=256,
    )
    return Run(
        system="detector",
        recipe="scenes",
        model=model,
        objective=Detection(attribute_weight=1.0),
        inputs=InputSettings(transform="resize_and_flip", side_scale=(1.0, 1.0)),
        optim=OptimSettings(lr=1.5e-3, betas=(0.9, 0.99), weight_decay=0.02, warmup_steps=200, clip_norm=5.0),
        training=TrainingSettings(
            steps=2000, batch=16, precision="float32", eval_every=400, eval_rows=500, eval_metric="map"
        ),
    )


def tiny() -> Run:
    """The scenes' detector, smaller, for a few dozen steps: tests and first tries. A few seconds on one core."""
    run = scenes()
    return replace(
        run,
        recipe="tiny",
        model=replace(
            run.model, widths=(8, 12, 16, 24), pyramid_width=16, shorter_side=48, feature_width=32, regions_drawn=12
        ),
        optim=replace(run.optim, warmup_steps=5),
        training=TrainingSettings(
            steps=40, batch=8, precision="float32", log_every=1, eval_every=20, eval_rows=64, eval_metric="map"
        ),
    )


def coco() -> Run:
    """torchvision's Faster R-CNN with a feature pyramid over ResNet-50, on photos. arXiv:1612.03144.

    Begin from torchvision's weights by `--init`: of its detector on COCO for one's own classes, or of its resnet50.
    Norms are frozen, so that nothing good comes of drawn weights; for these set model.freeze_norms=false and
    model.learning_stages=5, on the backbone resnet50_v2. Theirs reached an average precision of 37.0 % on COCO, the
    second version 46.7 %. Differs: AdamW and a cosine, where theirs was SGD with two drops of the rate. Not run in
    full here: hardware; the tests take a step.
    """
    return Run(
        system="detector",
        recipe="coco",
        model=FasterRCNNConfig(),
        objective=Detection(),
        inputs=InputSettings(transform="resize_and_flip", side_scale=(0.6, 1.0)),
        optim=OptimSettings(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4, warmup_steps=500, clip_norm=10.0),
        training=TrainingSettings(epochs=12, batch=16, eval_every=2000, eval_rows=1000, eval_metric="map"),
    )


def coco_v2() -> Run:
    """`coco` in torchvision's second version: norms and convolutions in the pyramid and the box head."""
    run = coco()
    return replace(run, recipe="coco_v2", model=replace(run.model, backbone="resnet50_v2"))


def c4() -> Run:
    """Faster R-CNN on one map of stride 16 over ResNet-101; features of 2,048 numbers, as bottom-up attention's.

    Begin from torchvision's resnet101 by `--init`. Not run in full here: hardware; the tests take a step.
    """
    run = coco()
    model = replace(
        run.model,
        form="c4",
        backbone="resnet101",
        anchor_sizes=((32, 64, 128, 256, 512),),
        pool_side=14,
        feature_width=2048,
        regions_drawn=128,
        proposals=300,
        shorter_side=600,
        longer_side=1000,
    )
    return replace(run, recipe="c4", model=model)
