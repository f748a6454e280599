"""Bottom-up attention as everything after it asks for it: pictures to regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.data.regions import BoxKind, Regions, RegionSpec
from diptych.detector.boxes import clip
from diptych.detector.handing_on import regions_of
from diptych.detector.inputs import Prepared, prepare
from diptych.detector.model import C4Detector
from diptych.detector.selection import Candidates, Rule, Selected
from diptych.detector.weights import Release
from diptych.errors import DataError, WeightsError
from diptych.nn.unfilled import unfilled
from diptych.prepare.boxes import clipped

Written = Literal["proposal", "regressed", "given"]


@dataclass(frozen=True)
class Seen:
    """What the network says of the boxes of one picture. R boxes, F numbers a feature, C classes."""

    boxes: Tensor
    """(R, 4) in resized pixels."""
    features: Tensor
    """(R, F)."""
    class_probs: Tensor
    """(R, 1 + C), background first."""


class BottomUpAttention:
    """A `RegionDetector`: Faster R-CNN C4 with a rule of selection. Anderson et al., arXiv:1707.07998."""

    def __init__(
        self,
        release: Release,
        rule: Rule | None = None,
        *,
        box_kind: Written | None = None,
        consumer: str = "",
        keep: int = 5,
        soft_labels: bool = False,
        at_once: int = 16,
        device: str | torch.device = "cpu",
    ) -> None:
        """Builds the network, for inference alone.

        Args:
            release: the trained detector.
            rule: which proposals become regions; None: that of the release.
            box_kind: "proposal" or "regressed", the box that is handed on beside the feature, which is the proposal's;
                None: that of the rule's release. "given": regions are of given boxes only.
            consumer: the model and weights that the regions are for, as the spec tells it.
            keep: so many of the likeliest classes and attributes are handed on.
            soft_labels: hand on the whole softmax too.
            at_once: so many regions go through the network together; it changes no number.
            device: where.
        """
        self.rule = release.rule if rule is None else rule
        self.box_kind: BoxKind = self.rule.box_kind if box_kind is None else box_kind
        self.config, self.preprocessing = release.config, release.preprocessing
        self.keep, self.soft_labels, self.at_once = keep, soft_labels, at_once
        self.device = torch.device(device)
        self.model = unfilled(C4Detector, release.config)
        try:
            self.model.load_state_dict(release.state, assign=True)  # no second copy; nothing is changed in place
        except RuntimeError as error:
            raise WeightsError(f"the weights of {release.source} do not fit their settings: {error}") from error
        self.model.to(self.device).quicken()
        self._spec = RegionSpec(
            detector=f"bottom-up attention, R{3 * sum(self.config.stages) + 2}-C4",
            detector_hash=release.fingerprint(),
            rule="given boxes" if self.box_kind == "given" else str(self.rule),
            consumer=consumer,
            feature_kind="c4-mean",
            feature_width=self.config.feature_width,
            classes=release.classes,
            attributes=release.attributes,
            box_kind=self.box_kind,
            plus_one=self.config.plus_one,
            colour=self.preprocessing.colour,
        )

    @property
    def spec(self) -> RegionSpec:
        """What all its regions are made with."""
        return self._spec

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """The regions of each picture, one by one: padding to a common size would change them.

        Where nothing is left, the whole picture is the one region. Of given boxes the order is kept, the confidence
        is 1, and what sticks out of the picture is cut off.

        Raises:
            DataError: boxes are missing, are no boxes or lie outside, or features are not finite.
        """
        if given is None and self.box_kind == "given":
            raise DataError("this detector computes features of given boxes only, and no boxes were given")
        if given is None:
            return [self._detect(picture) for picture in pictures]
        return [self._of_given(picture, boxes) for picture, boxes in zip(pictures, given, strict=True)]

    def _detect(self, picture: Image.Image) -> Regions:
        prepared = prepare(picture, self.preprocessing)
        feature_map = self._feature_map(prepared)
        proposals = self.model.rpn.propose(feature_map, [prepared.size], [prepared.scale[0]])[0]
        seen = self._see(feature_map, proposals.boxes)
        selected = self.rule.select(self._candidates(seen, prepared))
        if len(selected.rows) == 0:
            return self._of_whole(picture, prepared, feature_map)
        boxes = seen.boxes[selected.rows]
        if self.box_kind == "regressed":
            boxes = self._regress(seen, selected.rows, selected.class_ids, prepared)
        return self._regions(picture, prepared, seen, selected, boxes)

    def _of_whole(self, picture: Image.Image, prepared: Prepared, feature_map: Tensor) -> Regions:
        height, width = prepared.size
        last = float(self.config.plus_one)
        seen = self._see(feature_map, feature_map.new_tensor([[0, 0, width - last, height - last]]))
        scores, class_ids = seen.class_probs[:, 1:].max(dim=1)
        selected = Selected(torch.zeros_like(class_ids), class_ids, scores)
        return self._regions(picture, prepared, seen, selected, seen.boxes)

    def _of_given(self, picture: Image.Image, given: np.ndarray) -> Regions:
        prepared = prepare(picture, self.preprocessing)
        inside = clipped(given, *picture.size, plus_one=self.config.plus_one)
        boxes = torch.from_numpy(inside).to(self.device) * self._scale(prepared)
        seen = self._see(self._feature_map(prepared), boxes)
        rows = torch.arange(len(boxes), device=self.device)
        selected = Selected(rows, seen.class_probs[:, 1:].argmax(dim=1), torch.ones(len(boxes), device=self.device))
        return self._regions(picture, prepared, seen, selected, boxes)

    def _feature_map(self, prepared: Prepared) -> Tensor:
        pixels = prepared.pixels[None].to(self.device).contiguous(memory_format=torch.channels_last)
        return self.model.backbone(pixels)

    def _see(self, feature_map: Tensor, boxes: Tensor) -> Seen:
        features = self.model.head(feature_map, [boxes], at_once=self.at_once)
        if not bool(features.isfinite().all()):
            raise DataError(
                "features of this picture are not finite (NaN or infinite); check the detector's weights, and that it "
                "runs in float32"
            )
        return Seen(boxes, features, self.model.predictor.class_probs(features))

    def _candidates(self, seen: Seen, prepared: Prepared) -> Candidates:
        return Candidates(
            boxes=seen.boxes,
            class_probs=seen.class_probs,
            regress=lambda rows, class_ids: self._regress(seen, rows, class_ids, prepared),
            scale=self._scale(prepared),
            plus_one=self.config.plus_one,
        )

    def _regress(self, seen: Seen, rows: Tensor, class_ids: Tensor, prepared: Prepared) -> Tensor:
        boxes = self.model.predictor.regress(seen.features[rows], seen.boxes[rows], class_ids)
        return clip(boxes, *prepared.size, plus_one=self.config.plus_one)

    def _regions(
        self, picture: Image.Image, prepared: Prepared, seen: Seen, selected: Selected, boxes: Tensor
    ) -> Regions:
        return regions_of(
            picture,
            boxes / self._scale(prepared),
            seen.features,
            seen.class_probs,
            selected,
            self.model.predictor.attributes,
            keep=self.keep,
            soft_labels=self.soft_labels,
        )

    def _scale(self, prepared: Prepared) -> Tensor:
        """(4,) resized pixels to a pixel of the picture, for x0, y0, x1, y1."""
        y, x = prepared.scale
        return torch.tensor([x, y, x, y], device=self.device)
