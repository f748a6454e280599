"""Coding, clipping and anchors, by hand and by their properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.detector import boxes

BOTH = pytest.mark.parametrize("plus_one", [False, True])


def test_a_side_counts_its_last_pixel_in_one_convention_only():
    box = torch.tensor([2.0, 3.0, 6.0, 3.0])
    assert boxes.sides(box, plus_one=False).tolist() == [4, 0]
    assert boxes.sides(box, plus_one=True).tolist() == [5, 1]


def test_deltas_move_by_sides_and_stretch_by_exponents():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[5.0, 0.0, 5 * torch.log(torch.tensor(2.0)), 0.0]])
    moved = boxes.decode(deltas, box, (10, 10, 5, 5))  # by half a width to the right, twice as wide
    assert_close(moved, torch.tensor([[10.0, 20.0, 50.0, 60.0]]))


@BOTH
@given(values=st.lists(st.floats(-0.875, 0.875, width=32), min_size=4, max_size=4))
def test_decode_undoes_encode(plus_one, values):
    deltas = torch.tensor([values])
    box = torch.tensor([[3.0, 5.0, 20.0, 11.0]])
    moved = boxes.decode(deltas, box, (1, 2, 1, 2), plus_one=plus_one)
    if plus_one:  # the decoded x1 is one past the last pixel
        moved[:, 2:] -= 1
    assert_close(boxes.encode(moved, box, (1, 2, 1, 2), plus_one=plus_one), deltas, atol=1e-4, rtol=1e-4)


def test_the_stretch_is_bounded_in_one_convention_only():
    box, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 9.0, 0.0]])
    wide = boxes.sides(boxes.decode(deltas, box, (1, 1, 1, 1)), plus_one=False)[0, 0]
    assert wide == pytest.approx(1000)
    wider = boxes.sides(boxes.decode(deltas, box, (1, 1, 1, 1), plus_one=True), plus_one=False)[0, 0]
    assert wider == pytest.approx(17 * 8103.08, rel=1e-4)


def test_boxes_end_at_the_edge_or_at_the_last_pixel():
    box = torch.tensor([[-3.0, 2.0, 99.0, 99.0]])
    assert boxes.clip(box, 10, 20).tolist() == [[0, 2, 20, 10]]
    assert boxes.clip(box, 10, 20, plus_one=True).tolist() == [[0, 2, 19, 9]]


def test_overlap_counts_last_pixels():
    """One shared column of two: IoU 1/3; without its width there is no overlap at all."""
    two = torch.tensor([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 2.0, 0.0]])
    scores = torch.tensor([0.9, 0.8])
    assert boxes.nms(two, scores, 0.3, plus_one=True).tolist() == [0]
    assert boxes.nms(two, scores, 0.34, plus_one=True).tolist() == [0, 1]


def test_of_equal_scores_the_first_is_kept():
    same = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 3)
    assert boxes.nms(same, torch.ones(3), 0.5).tolist() == [0]


def test_anchors_have_the_area_and_ratio_asked_for():
    cells = boxes.cell_anchors((8, 32), (0.5, 2.0), 16)
    side = boxes.sides(cells, plus_one=False)
    assert_close(side.prod(dim=1), torch.tensor([64.0, 64.0, 1024.0, 1024.0]))
    assert_close(side[:, 1] / side[:, 0], torch.tensor([0.5, 2.0, 0.5, 2.0]))
    assert_close(cells[:, :2], -cells[:, 2:])


def test_the_grid_goes_over_rows_then_columns_then_anchors():
    cells = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-3.0, -3.0, 3.0, 3.0]])
    grid = boxes.anchor_grid(cells, 2, 3, 16)
    assert grid.shape == (12, 4)
    assert grid[1].tolist() == cells[1].tolist()
    assert grid[2].tolist() == [15, -2, 17, 2]
    assert grid[6].tolist() == [-1, 14, 1, 18]
    assert boxes.anchor_grid(cells, 2, 3, 16, offset=0.5)[0].tolist() == [7, 6, 9, 10]
