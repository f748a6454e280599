"""One's own detector, trained: pictures to regions for fused models, and to what is found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.checkpoint.hashing import weights_hash
from diptych.data.regions import BoxKind, Regions, RegionSpec
from diptych.detector.assembling import BOX_WEIGHTS
from diptych.detector.boxes import clip, decode
from diptych.detector.faster_rcnn import FasterRCNN, Looked, Seen
from diptych.detector.handing_on import regions_of
from diptych.detector.learning_inputs import LearningInputs
from diptych.detector.selection import ButdRule, Candidates, Rule, Selected
from diptych.errors import DataError
from diptych.metrics.detection import Found
from diptych.prepare.boxes import clipped

NUM_CLASSES = 5
"""The likeliest classes, and attributes, that are given of a region; all stand in its soft labels."""


class OwnDetector:
    """A `RegionDetector`, and what `tasks.detection` asks. One picture at a time, so that none depends on another."""

    def __init__(
        self,
        model: FasterRCNN,
        inputs: LearningInputs,
        device: torch.device,
        name: str,
        rule: Rule | None = None,
        box_kind: BoxKind | None = None,
    ) -> None:
        """Moves the model to the device, at rest.

        Args:
            model: with its trained weights.
            inputs: of the same config.
            device: where it computes.
            name: for tables and reports.
            rule: which proposals become regions; None: as in UNITER's features.
            box_kind: which box is written beside the feature; None: as the rule's release does. "given" where
                boxes will be given.
        """
        self.model = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.inputs = inputs
        self.device = device
        self.name = name
        self.rule = ButdRule() if rule is None else rule
        self.box_kind = self.rule.box_kind if box_kind is None else box_kind
        config = model.config
        self.classes = config.classes
        self.spec = RegionSpec(
            detector=f"Faster R-CNN, {config.backbone} {config.form}, one's own",
            detector_hash=weights_hash(model.state_dict(), config),
            rule="given boxes" if self.box_kind == "given" else str(self.rule),
            feature_kind="c4-mean" if config.form == "c4" else "fpn-box-head",
            feature_width=config.feature_width,
            classes=config.classes,
            attributes=config.attributes,
            box_kind=self.box_kind,
        )

    @torch.inference_mode()
    def find(self, pictures: Sequence[Image.Image]) -> list[Found]:
        """What is in each picture, in its pixels: at most 100 boxes, of those that overlap within a class the best."""
        found = []
        for picture in pictures:
            seen, scale = self._look(picture)
            (one,) = self.model.find(seen)
            found.append(Found(boxes=one.boxes / scale.numpy(), scores=one.scores, labels=one.labels))
        return found

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """The regions of each picture; where nothing is left, the whole picture is the one region.

        Of given boxes the order is kept, the confidence is 1, and what sticks out of the picture is cut off.

        Raises:
            DataError: boxes are missing, are no boxes or lie outside, or features are not finite.
        """
        if given is None and self.box_kind == "given":
            raise DataError("this detector computes features of given boxes only, and no boxes were given")
        boxes: Sequence[np.ndarray | None] = [None] * len(pictures) if given is None else given
        return [self._regions(picture, own) for picture, own in zip(pictures, boxes, strict=True)]

    def _look(self, picture: Image.Image) -> tuple[Seen, Tensor]:
        """The first stage's work, and (4,) what x0, y0, x1, y1 were multiplied by."""
        pixels, scale = self.inputs.evaluation_pixels(picture)
        return self.model.look(pixels[None].to(self.device)), torch.tensor([*scale, *scale])

    def _regions(self, picture: Image.Image, given: np.ndarray | None) -> Regions:
        seen, scale = self._look(picture)
        scale = scale.to(self.device)
        if given is None:
            whole = scale.new_tensor([[0, 0, seen.size[1], seen.size[0]]])
            boxes = seen.proposals[0] if len(seen.proposals[0]) else whole
        else:
            boxes = torch.from_numpy(clipped(given, *picture.size)).to(self.device) * scale
        looked = self.model.region_heads(seen, [boxes])
        probs = looked.logits.float().softmax(dim=1)
        if given is None:
            chosen = self.rule.select(self._candidates(seen, boxes, looked, probs, scale))
        else:
            rows = torch.arange(len(boxes), device=self.device)
            chosen = Selected(rows, probs[:, 1:].argmax(dim=1), torch.ones(len(boxes), device=self.device))
        if given is None and not len(chosen.rows):
            whole_picture = self._regions(picture, np.array([[0, 0, picture.width, picture.height]], np.float32))
            return replace(whole_picture, scores=whole_picture.soft_labels[:, 1:].max(axis=1))  # type: ignore[index]
        rows = chosen.rows
        if not bool(looked.features[rows].isfinite().all()):
            raise DataError("features of this picture are not finite; are the weights damaged?")
        written = boxes[rows]
        if given is None and self.box_kind == "regressed":
            written = _regressed(looked, boxes, rows, chosen.class_ids, seen.size)
        return regions_of(
            picture,
            written / scale,
            looked.features,
            probs,
            chosen,
            self.model.attributes,
            keep=NUM_CLASSES,
            soft_labels=True,
        )

    def _candidates(self, seen: Seen, boxes: Tensor, looked: Looked, probs: Tensor, scale: Tensor) -> Candidates:
        return Candidates(
            boxes=boxes,
            class_probs=probs,
            regress=lambda rows, class_ids: _regressed(looked, boxes, rows, class_ids, seen.size),
            scale=scale,
        )


def _regressed(looked: Looked, boxes: Tensor, rows: Tensor, class_ids: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 4) proposals moved onto what they hold, within the picture."""
    moved = decode(looked.deltas[rows, 1 + class_ids].float(), boxes[rows], BOX_WEIGHTS)
    return clip(moved, *size)
