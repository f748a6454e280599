"""Seconds a picture and peak memory of bottom-up attention, R101-C4 at full size with random weights.

Beside it the same network in plain eager form, as the ports run it: batch norms apart, channels first, all regions
through the last stage in one go, and boxes, attributes and decoded anchors of everything. Both start from a decoded
picture of 1000 x 600 pixels, propose 300 boxes and hand on the 36 regions of the port's rule; these are compared.
The peak is that of a process of its own, with all that is in it.

    python benchmarks/regions.py --threads 2 --json regions.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import ops

from diptych.data.regions import Regions
from diptych.detector.bottom_up import BottomUpAttention
from diptych.detector.boxes import clip, decode
from diptych.detector.inputs import BUTD, prepare
from diptych.detector.model import C4Detector, DetectorConfig
from diptych.detector.resnet import Bottleneck, FrozenConv
from diptych.detector.selection import LxmertRule
from diptych.detector.weights import Release
from harness import add_clock, arguments, machine, print_machine, show, take_turns, write_json
from samples import photographs

PEER = "plain eager"
OURS = "diptych"
RULE = LxmertRule()
FULL = DetectorConfig()
SMALL = replace(FULL, stages=(1, 1, 2, 1), width=32, bottleneck=8, num_classes=50, num_attributes=20)
GIB = 2**30


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=1, help="a turn")
    parser.add_argument("--child", choices=(PEER, OURS), help="run one picture and print the peak of memory, here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child is not None:
        detector_of(options.child, options.quick)(pictures(1)[0][0])
        print(peak_bytes())
        return
    if options.quick:
        options.rounds = 1
    print_machine()
    shown, origin = pictures(options.pictures)
    ways = {name: detector_of(name, options.quick) for name in (PEER, OURS)}
    difference = compare([ways[PEER](one) for one in shown], [ways[OURS](one) for one in shown])
    turns = {name: work(detect, shown) for name, detect in ways.items()}
    rates = take_turns(turns, rounds=options.rounds, clock=options.clock, warm_up=False)
    title = f"pictures of 1000 x 600 pixels ({origin}) to 36 regions, {options.clock} clock"
    found = show(title, rates, PEER, "region")
    seconds = {name: RULE.max_boxes / way["median"] for name, way in found["ways"].items()}
    peaks = {name: measured_peak(name, options) for name in ways}
    for name in ways:
        print(f"  {name:44} {seconds[name]:10.2f} s a picture, peak {peaks[name] / GIB:.2f} GiB")
    print(f"  the same {difference['regions']} regions: boxes to {difference['boxes']:.1e} of a pixel, features to "
          f"{difference['features']:.1e} of the largest")  # fmt: skip
    write_json(
        options, {**machine(), "clock": options.clock, "results": found, "peak": peaks, "difference": difference}
    )


def pictures(num: int) -> tuple[list[Image.Image], str]:
    photos, origin = photographs(num)
    return [Image.open(BytesIO(photo)).convert("RGB").resize((1000, 600)) for photo in photos], origin


def work(detect: Callable[[Image.Image], Regions], shown: list[Image.Image]) -> Callable[[], float]:
    return lambda: sum(len(detect(picture)) for picture in shown)


def detector_of(name: str, quick: bool) -> Callable[[Image.Image], Regions]:
    release = random_release(SMALL if quick else FULL)
    if name == PEER:
        return PlainDetector(release).detect
    detector = BottomUpAttention(release, RULE)
    return lambda picture: detector.detect([picture])[0]


def random_release(config: DetectorConfig) -> Release:
    """Weights drawn so that maps neither vanish nor explode, and predictions differ between regions."""
    torch.manual_seed(0)
    model = C4Detector(config)
    for module in model.modules():
        if isinstance(module, FrozenConv):
            module.norm.running_var.uniform_(0.5, 1.5)
            module.norm.bias.normal_(std=0.1)
        if isinstance(module, Bottleneck):  # so that a deep network does not double with every block
            module.conv3.norm.weight.fill_(0.3)
    nn.init.normal_(model.rpn.objectness.weight, std=0.1)
    nn.init.normal_(model.rpn.deltas.weight, std=0.01)
    nn.init.normal_(model.predictor.classes.weight, std=0.1)
    return Release(config=config, preprocessing=BUTD, state=model.state_dict(), source="random")


class PlainDetector:
    """The network as the ports run it: one operation after the other, over everything."""

    def __init__(self, release: Release) -> None:
        self.config, self.preprocessing = release.config, release.preprocessing
        self.model = C4Detector(release.config).eval().requires_grad_(False)
        self.model.load_state_dict(release.state)
        for module in self.model.modules():
            if isinstance(module, FrozenConv):
                norm = nn.BatchNorm2d(module.out_channels).eval().requires_grad_(False)
                norm.load_state_dict(module.norm.state_dict(), strict=False)
                module.norm = norm

    @torch.inference_mode()
    def detect(self, picture: Image.Image) -> Regions:
        prepared = prepare(picture, self.preprocessing)
        feature_map = self.model.backbone(prepared.pixels[None])
        proposals = self.propose(feature_map, prepared.size)
        pooled = ops.roi_pool(feature_map, [proposals], self.config.pool_size, 1 / 16)
        features = self.model.head.res5(pooled).mean(dim=(2, 3))
        probs = self.model.predictor.classes(features).softmax(dim=1)
        deltas = self.model.predictor.boxes(features).unflatten(1, (-1, 4))
        every_box = decode(deltas, proposals[:, None], self.config.box_weights)  # (R, C, 4)
        assert self.model.predictor.attributes is not None
        attribute_probs, attribute_ids = self.model.predictor.attributes.probs(features, probs).max(dim=1)
        scores, class_ids = probs[:, 1:].max(dim=1)
        boxes = clip(every_box[torch.arange(len(scores)), class_ids], *prepared.size)
        for threshold in RULE.nms:
            kept = ops.nms(boxes, scores, threshold)[: RULE.max_boxes]
            if len(kept) >= RULE.min_boxes:
                break
        y, x = prepared.scale
        found = (boxes / torch.tensor([x, y, x, y]), features, scores, class_ids, attribute_ids, attribute_probs)
        boxes, features, scores, class_ids, attribute_ids, attribute_probs = (one[kept].numpy() for one in found)
        return Regions(
            height_px=picture.height, width_px=picture.width, boxes=boxes, features=features, scores=scores,
            class_ids=class_ids[:, None], attribute_ids=attribute_ids[:, None],
            attribute_probs=attribute_probs[:, None],
        )  # fmt: skip

    def propose(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        (logits,), (deltas,) = self.model.rpn(feature_map)
        boxes = decode(deltas, self.model.rpn.anchors(*feature_map.shape[-2:]), self.config.rpn_weights)
        logits, order = logits.sort(descending=True, stable=True)
        boxes, logits = clip(boxes[order][: self.config.pre_nms], *size), logits[: self.config.pre_nms]
        large = ((boxes[:, 2:] - boxes[:, :2]) > self.config.min_side).all(dim=1)
        boxes, logits = boxes[large], logits[large]
        return boxes[ops.nms(boxes, logits, self.config.rpn_nms)[: self.config.post_nms]]


def compare(theirs: list[Regions], ours: list[Regions]) -> dict[str, Any]:
    """How far apart the same regions are; that they are the same is asserted."""
    boxes = features = 0.0
    for peer, own in zip(theirs, ours, strict=True):
        assert own.class_ids is not None and peer.class_ids is not None
        assert own.attribute_ids is not None and peer.attribute_ids is not None
        assert own.class_ids[:, 0].tolist() == peer.class_ids[:, 0].tolist(), "other classes, or in another order"
        assert own.attribute_ids[:, 0].tolist() == peer.attribute_ids[:, 0].tolist(), "other attributes"
        boxes = max(boxes, float(np.abs(own.boxes - peer.boxes).max()))
        features = max(features, float(np.abs(own.features - peer.features).max() / np.abs(peer.features).max()))
    assert boxes < 0.05 and features < 1e-4, (boxes, features)
    return {"regions": sum(map(len, ours)), "boxes": boxes, "features": features}


def measured_peak(name: str, options: argparse.Namespace) -> int:
    """`peak_bytes` of a fresh process that builds a detector and runs it on a picture."""
    command = [sys.executable, __file__, "--child", name, "--threads", str(options.threads)]
    command += ["--quick"] if options.quick else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_bytes() -> int:
    """Resident bytes of this process at most, with the libraries that it loaded."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent had before it became another program, too
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
