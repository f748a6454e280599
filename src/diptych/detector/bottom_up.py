"""Bottom-up attention as everything after it asks for it: pictures to regions."""

from __future__ import annotations

from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from diptych.data.regions import RegionSpec
from diptych.detector.boxes import clip
from diptych.detector.inputs import Prepared, prepare
from diptych.detector.model import C4Detector
from diptych.detector.selection import Rule
from diptych.detector.two_stages import Judged, Looked, TwoStageDetector, check_finite, rule_and_kind
from diptych.detector.weights import Release
from diptych.errors import WeightsError
from diptych.nn.unfilled import unfilled

Written = Literal["proposal", "regressed", "given"]


class BottomUpAttention(TwoStageDetector):
    """Faster R-CNN C4 of a release, with a rule of selection. Anderson et al., arXiv:1707.07998."""

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
        self.config, self.preprocessing, self.at_once = release.config, release.preprocessing, at_once
        self.model = unfilled(C4Detector, release.config)
        try:
            self.model.load_state_dict(release.state, assign=True)  # no second copy; nothing is changed in place
        except RuntimeError as error:
            raise WeightsError(f"the weights of {release.source} do not fit their settings: {error}") from error
        self.model.to(torch.device(device)).quicken()
        rule = release.rule if rule is None else rule
        told, kind = rule_and_kind(rule, box_kind)
        spec = RegionSpec(
            detector=f"bottom-up attention, R{3 * sum(self.config.stages) + 2}-C4",
            detector_hash=release.fingerprint(),
            rule=told,
            consumer=consumer,
            feature_kind="c4-mean",
            feature_width=self.config.feature_width,
            classes=release.classes,
            attributes=release.attributes,
            box_kind=kind,
            score_kind="none" if kind == "given" else "rule",
            plus_one=self.config.plus_one,
            colour=self.preprocessing.colour,
        )
        attributes = self.model.predictor.attributes
        super().__init__(spec, rule, attributes, torch.device(device), keep=keep, soft_labels=soft_labels)

    @property
    def num_soft_labels(self) -> int:
        """1 + C, which the spec does not tell where its classes have no names."""
        return 1 + self.config.num_classes

    def look(self, picture: Image.Image) -> Looked:
        """The picture as the release resized it, through the backbone."""
        prepared = prepare(picture, self.preprocessing)
        pixels = prepared.pixels[None].to(self.device).contiguous(memory_format=torch.channels_last)
        feature_map = self.model.backbone(pixels)
        y, x = prepared.scale
        return Looked(
            size=prepared.size,
            scale=torch.tensor([x, y, x, y], device=self.device),
            propose=lambda: self._propose(feature_map, prepared),
            judge=lambda boxes: self._judge(feature_map, boxes, prepared),
        )

    def _propose(self, feature_map: Tensor, prepared: Prepared) -> Tensor:
        (proposals,) = self.model.rpn.propose(feature_map, [prepared.size], [min(prepared.scale)])
        check_finite(proposals.finite)
        return proposals.boxes

    def _judge(self, feature_map: Tensor, boxes: Tensor, prepared: Prepared) -> Judged:
        features = self.model.head(feature_map, [boxes], at_once=self.at_once)

        def regress(rows: Tensor, class_ids: Tensor) -> Tensor:
            moved = self.model.predictor.regress(features[rows], boxes[rows], class_ids)
            return clip(moved, *prepared.size, plus_one=self.config.plus_one)

        return Judged(features=features, class_probs=self.model.predictor.class_probs(features), regress=regress)
