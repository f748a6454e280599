"""What a rule selected, as `Regions`: the last step of every detector here."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from diptych.data.regions import Regions
from diptych.detector.model import AttributeBranch
from diptych.detector.selection import Selected, classes_first_chosen


def regions_of(
    picture: Image.Image,
    boxes: Tensor,
    features: Tensor,
    class_probs: Tensor,
    selected: Selected,
    attributes: AttributeBranch | None,
    *,
    keep: int,
    soft_labels: bool,
) -> Regions:
    """The regions of one picture, with the likeliest classes and attributes of each.

    Args:
        picture: as it came.
        boxes: (S, 4) in its pixels.
        features: (R, F) of all proposals.
        class_probs: (R, 1 + C) likewise, background first.
        selected: the S of them that a rule chose.
        attributes: the branch that says what they look like; None: nothing does.
        keep: so many classes and attributes of each, the likeliest.
        soft_labels: hand on the whole softmax too.
    """
    features, probs = features[selected.rows].float(), class_probs[selected.rows]
    class_ids, kept_probs = classes_first_chosen(probs, selected.class_ids, keep)
    attribute_probs = attribute_ids = None
    if attributes is not None:
        all_attributes = attributes.probs(features, probs)
        attribute_probs, attribute_ids = all_attributes.topk(min(keep, all_attributes.shape[1]))
    return Regions(
        height_px=picture.height,
        width_px=picture.width,
        boxes=_array(boxes),
        features=_array(features),
        scores=_array(selected.scores),
        class_ids=_array(class_ids.int()),
        class_probs=_array(kept_probs),
        soft_labels=_array(probs) if soft_labels else None,
        attribute_ids=None if attribute_ids is None else _array(attribute_ids.int()),
        attribute_probs=None if attribute_probs is None else _array(attribute_probs),
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
