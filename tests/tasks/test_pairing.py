"""Texts and pictures that are embedded once: blocks of bounded size, and what stands at which place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.objectives.objective import Embedded
from diptych.tasks import pairing
from diptych.tasks.pairing import Kept, blocks


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=20), st.integers(1, 30))
def test_blocks_hold_each_side_once_and_all_pairs_in_order(pairs, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "CACHED", most)
        found = list(blocks(pairs, lambda picture: [picture] * (picture + 1), lambda text: [text] * 2))
    again = [(block.pictures[p][0], block.texts[t][0]) for block in found for p, t in block.pairs]
    assert again == pairs
    for block in found:
        assert len({picture[0] for picture in block.pictures}) == len(block.pictures)
        assert len({text[0] for text in block.texts}) == len(block.texts)
        assert sum(map(len, block.pictures)) + sum(map(len, block.texts)) < most + 5 + 2  # one pair above at most


def test_what_is_kept_comes_back_by_place():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    first = Embedded(hidden=hidden, mask=torch.tensor([[True, True, False], [True, False, False]]))
    second = Embedded(hidden=hidden[:1] + 100, mask=torch.ones(1, 3, dtype=torch.bool))
    kept = Kept.of([first, second])
    assert kept.lengths.tolist() == [2, 1, 3]
    found = kept.at(torch.tensor([2, 0, 2, 1]))
    assert found.mask.sum(dim=1).tolist() == [3, 2, 3, 1]
    assert torch.equal(found.hidden[0], hidden[0] + 100) and torch.equal(found.hidden[2], hidden[0] + 100)
    assert torch.equal(found.hidden[1, :2], hidden[0, :2]) and torch.equal(found.hidden[3, 0], hidden[1, 0])
    assert kept.at(torch.tensor([1])).hidden.shape == (1, 1, 4)
