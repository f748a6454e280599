"""One's own detector, trained: pictures to regions for fused models, and to what is found in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from diptych.checkpoint.hashing import weights_hash
from diptych.data.regions import BoxKind, RegionSpec
from diptych.detector.assembling import BOX_WEIGHTS
from diptych.detector.boxes import clip, decode
from diptych.detector.faster_rcnn import AT_ONCE, FasterRCNN, Seen
from diptych.detector.learning_inputs import LearningInputs
from diptych.detector.selection import ButdRule, Rule
from diptych.detector.two_stages import Judged, Looked, TwoStageDetector, check_finite, rule_and_kind
from diptych.metrics.detection import Found

NUM_CLASSES = 5
"""The likeliest classes, and attributes, that are given of a region; all stand in its soft labels."""


class OwnDetector(TwoStageDetector):
    """Regions of pictures, and what `tasks.detection` asks. One picture at a time, so that none depends on another."""

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
        rule = ButdRule() if rule is None else rule
        told, kind = rule_and_kind(rule, box_kind)
        config = model.config
        spec = RegionSpec(
            detector=f"Faster R-CNN, {config.backbone} {config.form}, one's own",
            detector_hash=weights_hash(model.state_dict(), config),
            rule=told,
            feature_kind="c4-mean" if config.form == "c4" else "fpn-box-head",
            feature_width=config.feature_width,
            classes=config.classes,
            attributes=config.attributes,
            box_kind=kind,
            score_kind="none" if kind == "given" else "rule",
        )
        super().__init__(spec, rule, model.attributes, device, keep=NUM_CLASSES, soft_labels=True)
        self.classes = config.classes

    @torch.inference_mode()
    def find(self, pictures: Sequence[Image.Image]) -> list[Found]:
        """What is in each picture, in its pixels: at most 100 boxes, of those that overlap within a class the best."""
        found = []
        for picture in pictures:
            seen, scale = self._seen(picture)
            (one,) = self.model.find(seen)
            found.append(Found(boxes=one.boxes / scale.numpy(), scores=one.scores, labels=one.labels))
        return found

    def look(self, picture: Image.Image) -> Looked:
        """The picture resized as the model learnt it, through the first stage."""
        seen, scale = self._seen(picture)
        return Looked(
            size=seen.size,
            scale=scale.to(self.device),
            propose=lambda: _proposed(seen),
            judge=lambda boxes: self._judge(seen, boxes),
        )

    def _seen(self, picture: Image.Image) -> tuple[Seen, Tensor]:
        """The first stage's work, and (4,) what x0, y0, x1, y1 were multiplied by."""
        pixels, scale = self.inputs.evaluation_pixels(picture)
        return self.model.look(pixels[None].to(self.device)), torch.tensor([*scale, *scale])

    def _judge(self, seen: Seen, boxes: Tensor) -> Judged:
        heads = self.model.region_heads(seen, [boxes], at_once=AT_ONCE)

        def regress(rows: Tensor, class_ids: Tensor) -> Tensor:
            deltas = heads.deltas[rows, 1 + class_ids].float()
            return clip(decode(deltas, boxes[rows], BOX_WEIGHTS), *seen.size)

        return Judged(features=heads.features.float(), class_probs=heads.logits.float().softmax(dim=1), regress=regress)


def _proposed(seen: Seen) -> Tensor:
    check_finite(bool(seen.objectness.isfinite().all()) and bool(seen.deltas.isfinite().all()))
    return seen.proposals[0]
