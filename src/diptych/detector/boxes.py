"""Boxes (x0, y0, x1, y1) of detectors: anchors, coding, clipping, overlap, in both conventions.

`plus_one` says that x1 and y1 are the last pixels inside, as in the original Caffe code: a width is x1 - x0 + 1. It
switches everything here together; a half-switched detector finds almost the right boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops

LARGEST_LOG = math.log(1000 / 16)
"""A decoded side is at most so many times (by exponent) as long as that of its anchor; there is no bound in Caffe."""


def sides(boxes: Tensor, *, plus_one: bool) -> Tensor:
    """(..., 4) to widths and heights, (..., 2)."""
    return boxes[..., 2:] - boxes[..., :2] + float(plus_one)


def encode(targets: Tensor, boxes: Tensor, weights: Sequence[float], *, plus_one: bool = False) -> Tensor:
    """The deltas that `decode` makes `targets` of `boxes` by. R-CNN, arXiv:1311.2524, appendix C."""
    side, target_side = sides(boxes, plus_one=plus_one), sides(targets, plus_one=plus_one)
    shift = (targets[..., :2] + target_side / 2 - boxes[..., :2] - side / 2) / side
    return torch.cat([shift, (target_side / side).log()], dim=-1) * boxes.new_tensor(weights)


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float], *, plus_one: bool = False) -> Tensor:
    """Boxes moved and stretched by deltas (..., 4): of the side, and of its logarithm, each times its weight.

    With `plus_one` x1 is the centre plus half the width, without the -1 that would make it a last pixel: so does the
    original code.
    """
    deltas = deltas / boxes.new_tensor(weights)
    side = sides(boxes, plus_one=plus_one)
    centre = deltas[..., :2] * side + (boxes[..., :2] + side / 2)
    stretch = deltas[..., 2:] if plus_one else deltas[..., 2:].clamp(max=LARGEST_LOG)
    half = stretch.exp() * side / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def clip(boxes: Tensor, height: float, width: float, *, plus_one: bool = False) -> Tensor:
    """Boxes cut at the picture's edges: at its last pixels with `plus_one`."""
    last = float(plus_one)
    largest = boxes.new_tensor([width - last, height - last, width - last, height - last])
    return boxes.clamp(min=0).minimum(largest)


def nms(boxes: Tensor, scores: Tensor, threshold: float, *, plus_one: bool = False) -> Tensor:
    """The rows that are kept, best first: those that no better one overlaps by more than `threshold` (IoU).

    Of equal scores the first row is the better.
    """
    if plus_one:  # the overlap of whole pixels is that of boxes that reach one further
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    return ops.nms(boxes, scores, threshold)


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], stride: int, *, plus_one: bool = False) -> Tensor:
    """(A, 4) anchors of the first cell: squares of `sizes`, made `ratios` times as high as wide.

    Sizes outer and ratios inner, centred on 0. With `plus_one` as the original code makes them: ratios outer, whole
    pixels of a box of one stride, then scaled about its centre.
    """
    if plus_one:
        width = (torch.tensor([stride**2 / ratio for ratio in ratios])).sqrt().round()  # (ratios,)
        side = torch.stack([width, (width * torch.tensor(ratios)).round()], dim=-1)  # (ratios, 2)
        scales = torch.tensor(sizes) / stride
        half = (scales[:, None] * side[:, None] - 1) / 2  # (ratios, sizes, 2)
        return ((stride - 1) / 2 + torch.cat([-half, half], dim=-1)).flatten(0, 1)
    area, ratio = torch.tensor(sizes)[:, None] ** 2, torch.tensor(ratios)[None]
    width = (area / ratio).sqrt()  # (sizes, ratios)
    half = torch.stack([width, ratio * width], dim=-1) / 2
    return torch.cat([-half, half], dim=-1).flatten(0, 1)


def anchor_grid(cells: Tensor, height: int, width: int, stride: int, offset: float = 0.0) -> Tensor:
    """(height · width · A, 4): the anchors of every cell of a map, in the order (y, x, anchor)."""
    y = (torch.arange(height, device=cells.device, dtype=cells.dtype) + offset) * stride
    x = (torch.arange(width, device=cells.device, dtype=cells.dtype) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shift = torch.stack([x, y, x, y], dim=-1)  # (height, width, 4)
    return (shift[:, :, None] + cells).flatten(0, 2)
