"""Pictures to regions by a network of two stages: what bottom-up attention and one's own detector have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.data.regions import BoxKind, Regions, RegionSpec
from diptych.detector.boxes import clip, sides
from diptych.detector.model import AttributeBranch
from diptych.detector.selection import Candidates, Rule, Selected, classes_first_chosen
from diptych.errors import DataError
from diptych.prepare.boxes import clipped


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the second stage says of boxes. R boxes, F numbers a feature, C classes."""

    features: Tensor
    """(R, F)."""
    class_probs: Tensor
    """(R, 1 + C), background first."""
    regress: Callable[[Tensor, Tensor], Tensor]
    """See `Candidates`."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One picture, once the backbone has seen it."""

    size: tuple[int, int]
    """Height and width of the picture after resizing."""
    scale: Tensor
    """(4,) resized pixels to a pixel of the picture, for x0, y0, x1, y1."""
    propose: Callable[[], Tensor]
    """(R, 4) boxes in resized pixels, the likeliest first; given ones need no such work. Raises DataError: what they
    were chosen by is not finite."""
    judge: Callable[[Tensor], Judged]
    """The second stage, on (R, 4) boxes in resized pixels; with a bounded number of them in memory together."""


class TwoStageDetector(ABC):
    """A `RegionDetector`: a network that proposes boxes and judges them, with a rule of selection."""

    def __init__(
        self,
        spec: RegionSpec,
        rule: Rule,
        attributes: AttributeBranch | None,
        device: torch.device,
        *,
        keep: int,
        soft_labels: bool,
    ) -> None:
        """Takes what is not the network's own.

        Args:
            spec: what all its regions are made with.
            rule: which proposals become regions.
            attributes: what says how a region looks; None: nothing does.
            device: where it computes.
            keep: so many of the likeliest classes and attributes are handed on.
            soft_labels: hand on the whole softmax too.
        """
        self.spec, self.rule, self.device = spec, rule, device
        self._attributes, self._keep, self._soft_labels = attributes, keep, soft_labels

    @abstractmethod
    def look(self, picture: Image.Image) -> Looked:
        """A picture of any mode through the backbone."""

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """The regions of each picture, one by one: padding to a common size would change them.

        Where nothing is left, the whole picture is the one region. Where a proposal is moved out of the picture, its
        region keeps the proposal's box, since there is no other. Of given boxes the order is kept, the confidence
        is 1, and what sticks out of the picture is cut off.

        Raises:
            DataError: boxes are missing, are no boxes or lie outside, or what the network says is not finite.
        """
        if given is None and self.spec.box_kind == "given":
            raise DataError("this detector computes features of given boxes only, and no boxes were given")
        if given is None:
            return [self._found(picture) for picture in pictures]
        return [self._of_given(picture, boxes) for picture, boxes in zip(pictures, given, strict=True)]

    def _found(self, picture: Image.Image) -> Regions:
        looked = self.look(picture)
        proposals = looked.propose()
        judged = _judged(looked, proposals)
        selected = self.rule.select(self._candidates(looked, proposals, judged))
        if len(selected.rows) == 0:
            return self._of_whole(picture, looked)
        boxes = proposals[selected.rows]
        if self.spec.box_kind == "regressed":
            moved = judged.regress(selected.rows, selected.class_ids)
            inside = (sides(moved, plus_one=self.spec.plus_one) > 0).all(dim=1, keepdim=True)
            boxes = torch.where(inside, moved, boxes)
        return self._regions(picture, looked, judged, selected, boxes)

    def _of_whole(self, picture: Image.Image, looked: Looked) -> Regions:
        """As sure as the likeliest class."""
        height, width = looked.size
        last = float(self.spec.plus_one)
        boxes = looked.scale.new_tensor([[0, 0, width - last, height - last]])
        judged = _judged(looked, boxes)
        scores, class_ids = judged.class_probs[:, 1:].max(dim=1)
        return self._regions(picture, looked, judged, Selected(torch.zeros_like(class_ids), class_ids, scores), boxes)

    def _of_given(self, picture: Image.Image, given: np.ndarray) -> Regions:
        inside = clipped(given, *picture.size, plus_one=self.spec.plus_one)
        looked = self.look(picture)
        boxes = torch.from_numpy(inside).to(self.device) * looked.scale
        judged = _judged(looked, boxes)
        rows = torch.arange(len(boxes), device=self.device)
        class_ids = judged.class_probs[:, 1:].argmax(dim=1)
        return self._regions(picture, looked, judged, Selected(rows, class_ids, boxes.new_ones(len(boxes))), boxes)

    def _candidates(self, looked: Looked, proposals: Tensor, judged: Judged) -> Candidates:
        return Candidates(
            boxes=proposals,
            class_probs=judged.class_probs,
            regress=judged.regress,
            scale=looked.scale,
            plus_one=self.spec.plus_one,
        )

    def _regions(
        self, picture: Image.Image, looked: Looked, judged: Judged, selected: Selected, boxes: Tensor
    ) -> Regions:
        """What was selected, of (S, 4) boxes in resized pixels, with the likeliest classes and attributes of each.

        Differs: boxes end with the picture; in the original code those at its edge may end half a resized pixel
        outside, by which its size was rounded.
        """
        features, probs = judged.features[selected.rows], judged.class_probs[selected.rows]
        class_ids, kept_probs = classes_first_chosen(probs, selected.class_ids, self._keep)
        attribute_probs = attribute_ids = None
        if self._attributes is not None:
            all_attributes = self._attributes.probs(features, probs)
            attribute_probs, attribute_ids = all_attributes.topk(min(self._keep, all_attributes.shape[1]))
        return Regions(
            height_px=picture.height,
            width_px=picture.width,
            boxes=_array(clip(boxes / looked.scale, picture.height, picture.width, plus_one=self.spec.plus_one)),
            features=_array(features),
            scores=_array(selected.scores),
            class_ids=_array(class_ids.int()),
            class_probs=_array(kept_probs),
            soft_labels=_array(probs) if self._soft_labels else None,
            attribute_ids=None if attribute_ids is None else _array(attribute_ids.int()),
            attribute_probs=None if attribute_probs is None else _array(attribute_probs),
        )


def rule_and_kind(rule: Rule, box_kind: BoxKind | None) -> tuple[str, BoxKind]:
    """How a spec tells the rule, and which box is written: None is that of the rule's release."""
    return ("given boxes", "given") if box_kind == "given" else (str(rule), box_kind or rule.box_kind)


def _judged(looked: Looked, boxes: Tensor) -> Judged:
    judged = looked.judge(boxes)
    check_finite(bool(judged.features.isfinite().all()) and bool(judged.class_probs.isfinite().all()))

    def regress(rows: Tensor, class_ids: Tensor) -> Tensor:
        moved = judged.regress(rows, class_ids)
        check_finite(bool(moved.isfinite().all()))
        return moved

    return replace(judged, regress=regress)


def check_finite(finite: bool) -> None:
    """Before anything is chosen: a comparison with NaN is false, and would leave nothing over.

    Raises:
        DataError: what the network says is not finite.
    """
    if not finite:
        raise DataError(
            "what the detector says of this picture is not finite (NaN or infinite); check its weights, and that it "
            "runs in float32"
        )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
