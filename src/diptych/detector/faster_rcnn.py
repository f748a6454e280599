"""One's own detector: Faster R-CNN on torchvision's parts, over a feature pyramid or as C4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from diptych.data.batch import Batch, ImagePart, ObjectPart
from diptych.detector.assembling import over_a_pyramid, over_one_map
from diptych.detector.model import AttributeBranch, DetectorConfig
from diptych.detector.own_config import FasterRCNNConfig
from diptych.detector.sampling import draw_boxes, even_shares
from diptych.metrics.detection import Found
from diptych.objectives.detection import Detected, Drawn, joined

AT_ONCE = 64
"""Boxes that are in memory together in the second stage where nothing is learnt: a bound that no picture moves."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the first stage makes of pictures of one size."""

    maps: Any
    """Name -> (B, C, h, w)."""
    size: tuple[int, int]
    """Height and width of the pictures, without what fills them up to whole strides."""
    objectness: Tensor
    """(B, N) logits."""
    deltas: Tensor
    """(B, N, 4)."""
    anchors: Tensor
    """(N, 4)."""
    proposals: list[Tensor]
    """Of each picture (R, 4), the most likely first."""


@dataclass(frozen=True, kw_only=True)
class OfRegions:
    """What the second stage makes of boxes."""

    features: Tensor
    """(R, F)."""
    logits: Tensor
    """(R, 1 + C), background first."""
    deltas: Tensor
    """(R, 1 + C, 4) for each class."""


class FasterRCNN(nn.Module):
    """Faster R-CNN, arXiv:1506.01497, over a feature pyramid (arXiv:1612.03144) or one map (C4).

    Parameters are named as in torchvision's detectors; `attributes.` stands beside them. Pictures of unequal sizes
    go through in groups of one size, so that no padding reaches a result.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__()
        self.config = config
        parts = over_one_map(config) if config.form == "c4" else over_a_pyramid(config)
        self.backbone, self.rpn, self.roi_heads = parts.backbone, parts.rpn, parts.roi_heads
        self.attributes = AttributeBranch(_attribute_sizes(config)) if config.attributes else None
        self.heads = nn.ModuleDict()
        self.register_buffer("pixel_mean", 255 * torch.tensor(config.image_mean)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", 255 * torch.tensor(config.image_std)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> FasterRCNN:
        """As `nn.Module` has it; norms stay at rest where they are frozen."""
        super().train(mode)
        if self.config.freeze_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, batch: Batch) -> Detected:
        """Both stages: what is drawn to learn from where objects are known, and what is found in evaluation."""
        assert batch.image is not None, "a detector reads pictures"
        objectness: dict[int, Tensor] = {}
        found: dict[int, Found] = {}
        anchors, regions = [], []
        for rows, pixels in equal_sizes(batch.image):
            seen = self.look(pixels)
            objectness |= dict(zip(rows, seen.objectness, strict=True))
            if batch.objects is not None:
                anchors_drawn, regions_drawn = self._learn(seen, batch.objects, rows)
                anchors.append(anchors_drawn)
                regions.append(regions_drawn)
            if not self.training:
                found |= dict(zip(rows, self.find(seen), strict=True))
        return Detected(
            objectness=tuple(objectness[row] for row in range(len(batch))),
            anchors=joined(anchors) if anchors else None,
            regions=joined(regions) if regions else None,
            found=tuple(found[row] for row in sorted(found)),
        )

    def look(self, pixels: Tensor) -> Seen:
        """The first stage on pictures of one size, (B, 3, height, width) uint8."""
        size = (pixels.shape[2], pixels.shape[3])
        scaled = (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        # After normalising, so that it is of the mean colour; to whole strides, as torchvision and the papers do.
        padded = F.pad(scaled, (0, -size[1] % self.stride, 0, -size[0] % self.stride))
        maps = self.backbone(padded.contiguous(memory_format=torch.channels_last))
        levels = list(maps.values())
        logits, deltas = self.rpn.head(levels)
        per_level = [one[0].numel() for one in logits]
        images = ImageList(padded[:1], [size])
        anchors = self.rpn.anchor_generator(images, levels)[0]
        objectness, flat = concat_box_prediction_layers(logits, deltas)
        objectness, flat = objectness.reshape(len(pixels), -1).float(), flat.reshape(len(pixels), -1, 4).float()
        with torch.no_grad():
            boxes = self.rpn.box_coder.decode(flat.detach().reshape(-1, 4), [anchors] * len(pixels))
            proposals, _ = self.rpn.filter_proposals(
                boxes.reshape(len(pixels), -1, 4), objectness, [size] * len(pixels), per_level
            )
        return Seen(maps=maps, size=size, objectness=objectness, deltas=flat, anchors=anchors, proposals=proposals)

    @property
    def stride(self) -> int:
        """What a picture's sides are filled up to a multiple of: the stride of the backbone's last map."""
        config = self.config
        if config.form == "c4":
            return 16
        return 2 ** len(config.widths) if config.backbone == "conv" else 32

    def region_heads(self, seen: Seen, boxes: Sequence[Tensor], *, at_once: int | None = None) -> OfRegions:
        """The second stage on boxes of each picture, one picture's below the other's.

        Args:
            seen: of the pictures.
            boxes: (R, 4) of each.
            at_once: so many boxes are in memory together; None: all, as it is where a backward pass needs them anyhow.
        """
        parts = [list(boxes)] if at_once is None else _in_parts(boxes, at_once)
        pooled = (self.roi_heads.box_roi_pool(seen.maps, part, [seen.size] * len(boxes)) for part in parts)
        features = torch.cat([self.roi_heads.box_head(one) for one in pooled])
        logits, deltas = self.roi_heads.box_predictor(features)
        return OfRegions(features=features, logits=logits, deltas=deltas.unflatten(1, (-1, 4)))

    @torch.no_grad()
    def find(self, seen: Seen) -> list[Found]:
        """What is in each picture: boxes moved by class, and of those that overlap within a class the best."""
        heads = self.region_heads(seen, seen.proposals, at_once=AT_ONCE)
        boxes, scores, labels = self.roi_heads.postprocess_detections(
            heads.logits.float(), heads.deltas.flatten(1).float(), seen.proposals, [seen.size] * len(seen.proposals)
        )
        return [
            Found(boxes=box.cpu().numpy(), scores=score.cpu().numpy(), labels=label.cpu().numpy() - 1)
            for box, score, label in zip(boxes, scores, labels, strict=True)
        ]

    def _learn(self, seen: Seen, objects: ObjectPart, rows: Sequence[int]) -> tuple[Drawn, Drawn]:
        """What is drawn to learn from, of anchors and of proposals, in pictures that are these rows of the batch."""
        there = [objects.mask[row] & ~objects.crowd[row] for row in rows]
        boxes = [objects.boxes[row][real] for row, real in zip(rows, there, strict=True)]
        labels = [1 + objects.labels[row][real] for row, real in zip(rows, there, strict=True)]
        attributes = [objects.attributes[row][real] for row, real in zip(rows, there, strict=True)]
        generators = [torch.Generator().manual_seed(objects.seeds[row]) for row in rows]
        return (
            self._learn_anchors(seen, boxes, rows, generators),
            self._learn_regions(seen, boxes, labels, attributes, rows, generators),
        )

    @torch.no_grad()
    def _match_anchors(self, seen: Seen, boxes: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Labels of the anchors of each picture, 1, 0 or -1, and (B, N, 4) deltas to the nearest object."""
        anchors = [seen.anchors] * len(boxes)
        labels, nearest = self.rpn.assign_targets_to_anchors(anchors, [{"boxes": one} for one in boxes])
        right = self.rpn.box_coder.encode(nearest, anchors)
        return labels, torch.stack(right)

    def _learn_anchors(
        self, seen: Seen, boxes: list[Tensor], rows: Sequence[int], generators: list[torch.Generator]
    ) -> Drawn:
        labels, right = self._match_anchors(seen, boxes)
        draw = partial(draw_boxes, num=self.config.anchors_drawn, share=0.5)
        drawn = [draw(one, generator=generator) for one, generator in zip(labels, generators, strict=True)]
        at_objects, at_all, where, of_objects = _places(drawn, seen.objectness.shape[1], rows)
        return Drawn(
            row=where,
            logits=seen.objectness.flatten()[at_all],
            labels=torch.cat(labels)[at_all],
            object_row=of_objects,
            deltas=seen.deltas.flatten(0, 1)[at_objects],
            right_deltas=right.flatten(0, 1)[at_objects],
        )

    def _learn_regions(
        self,
        seen: Seen,
        boxes: list[Tensor],
        labels: list[Tensor],
        attributes: list[Tensor],
        rows: Sequence[int],
        generators: list[torch.Generator],
    ) -> Drawn:
        """The objects' own boxes stand among the proposals, so that there is always something to learn from."""
        with torch.no_grad():
            proposals = [torch.cat([one, own]) for one, own in zip(seen.proposals, boxes, strict=True)]
            matched, found = self.roi_heads.assign_targets_to_proposals(proposals, boxes, labels)
            draw = partial(draw_boxes, num=self.config.regions_drawn, share=0.25)
            drawn = [draw(one, generator=generator) for one, generator in zip(found, generators, strict=True)]
            taken = [torch.cat(pair) for pair in drawn]
            kept = [one[at] for one, at in zip(proposals, taken, strict=True)]
            right_labels = torch.cat([one[at] for one, at in zip(found, taken, strict=True)])
            objects = [at for at, _ in drawn]
            nearest = [of[at] for of, at in zip(matched, objects, strict=True)]
            right = self.roi_heads.box_coder.encode(
                [own[at] for own, at in zip(boxes, nearest, strict=True)],
                [one[at] for one, at in zip(proposals, objects, strict=True)],
            )
        heads = self.region_heads(seen, kept)
        is_object = right_labels > 0  # in each picture these come first, in the order of `objects`
        where = _rows_of(rows, taken)
        classes = right_labels[is_object]
        return Drawn(
            row=where,
            logits=heads.logits,
            labels=right_labels,
            object_row=where[is_object],
            deltas=heads.deltas[is_object, classes],
            right_deltas=torch.cat(right),
            **self._learn_attributes(heads.features[is_object], classes, attributes, nearest),
        )

    def _learn_attributes(
        self, features: Tensor, classes: Tensor, attributes: list[Tensor], nearest: list[Tensor]
    ) -> dict[str, Tensor]:
        if self.attributes is None:
            return {}
        has = torch.cat([one[at] for one, at in zip(attributes, nearest, strict=True)])  # (P, A)
        return {"attributes": self.attributes(features, classes), "right_attributes": even_shares(has)}


def equal_sizes(image: ImagePart) -> list[tuple[list[int], Tensor]]:
    """The pictures of a batch by size, without their padding: places in the batch, and (n, 3, height, width)."""
    if image.sizes is None:
        return [(list(range(len(image.pixels))), image.pixels)]
    by_size: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(image.sizes):
        by_size.setdefault(size, []).append(row)
    return [(rows, image.pixels[rows, :, : size[0], : size[1]]) for size, rows in by_size.items()]


def _in_parts(boxes: Sequence[Tensor], at_once: int) -> list[list[Tensor]]:
    """The same boxes in the same order, so many at a time: of each picture those that are in the part."""
    picture = torch.cat([torch.full((len(one),), place) for place, one in enumerate(boxes)])
    parts = zip(torch.cat(list(boxes)).split(at_once), picture.split(at_once), strict=True)
    return [[part[of == place] for place in range(len(boxes))] for part, of in parts]


def _places(
    drawn: Sequence[tuple[Tensor, Tensor]], num: int, rows: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places in the flattened (B, N) of the boxes with objects and of all, and the rows that both belong to."""
    taken = [torch.cat(pair) for pair in drawn]
    at_objects = torch.cat([place * num + at for place, (at, _) in enumerate(drawn)])
    at_all = torch.cat([place * num + at for place, at in enumerate(taken)])
    return at_objects, at_all, _rows_of(rows, taken), _rows_of(rows, [at for at, _ in drawn])


def _rows_of(rows: Sequence[int], parts: Sequence[Tensor]) -> Tensor:
    """(S,) the row of the batch that each entry of the parts belongs to."""
    of_each = torch.tensor(rows, device=parts[0].device)
    return of_each.repeat_interleave(torch.tensor([len(one) for one in parts], device=parts[0].device))


def _attribute_sizes(config: FasterRCNNConfig) -> DetectorConfig:
    """Bottom-up attention's branch, over features of this width."""
    return DetectorConfig(
        width=config.feature_width // 8, num_classes=len(config.classes), num_attributes=len(config.attributes)
    )
