"""What is drawn to learn from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.detector.sampling import draw_boxes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_few_objects_are_all_taken_and_others_fill_up() -> None:
    labels = torch.tensor([0, 5, -1, 0, 2, 0, 0])
    objects, others = draw_boxes(labels, 5, 0.5, seeded())
    assert sorted(objects.tolist()) == [1, 4]
    assert len(others) == 3 and set(others.tolist()) < {0, 3, 5, 6}


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_many_objects_leave_room_for_others(kind: torch.dtype) -> None:
    labels = torch.tensor([1] * 20 + [0] * 9).to(kind)
    objects, others = draw_boxes(labels, 12, 0.25, seeded())
    assert (len(objects), len(others)) == (3, 9)


def test_nothing_is_drawn_of_nothing() -> None:
    objects, others = draw_boxes(torch.zeros(0), 12, 0.5, seeded())
    assert (len(objects), len(others)) == (0, 0)


def test_every_box_has_its_turn() -> None:
    labels = torch.tensor([1, 1, 1, 0, 0, 0, 0])
    seen = {int(place) for seed in range(60) for part in draw_boxes(labels, 3, 0.4, seeded(seed)) for place in part}
    assert seen == set(range(7))


@given(labels=st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=30), num=st.integers(1, 20), seed=st.integers(0, 9))
def test_no_box_is_drawn_twice_nor_an_unclear_one(labels: list[int], num: int, seed: int) -> None:
    told = torch.tensor(labels)
    objects, others = draw_boxes(told, num, 0.5, seeded(seed))
    again = draw_boxes(told, num, 0.5, seeded(seed))
    assert torch.equal(objects, again[0]) and torch.equal(others, again[1])
    taken = torch.cat([objects, others]).tolist()
    assert len(taken) == len(set(taken)) <= num
    assert all(labels[place] > 0 for place in objects) and all(labels[place] == 0 for place in others)
    assert len(objects) == min(sum(label > 0 for label in labels), num // 2)
