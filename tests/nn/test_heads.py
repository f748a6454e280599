"""Heads by hand; their numbers are held against UNITER's release in parity."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from diptych.nn.heads import FeatureHead, WordHead
from diptych.nn.task_heads import PADDED, AnswerHead, PairHead, RegionScoreHead

D = 8


def drawn(head):
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head.eval()


def test_tied_heads_hold_no_table_and_teach_the_one_they_are_given():
    words, features = drawn(WordHead(D, 11)), drawn(FeatureHead(D, 5))
    assert not any(
        parameter.shape in ((11, D), (D, 5), (5, D)) for head in (words, features) for parameter in head.parameters()
    )
    hidden = torch.randn(3, D)
    for head, table, outputs in ((words, torch.randn(11, D), 11), (features, torch.randn(D, 5), 5)):
        table.requires_grad_()
        found = head(hidden, table)
        assert found.shape == (3, outputs)
        found.sum().backward()
        assert table.grad.any()


def test_a_word_whose_vector_is_the_state_is_the_likeliest():
    head = WordHead(D, D)
    torch.nn.init.zeros_(head.bias)
    hidden = torch.randn(6, D)
    table = 10 * torch.eye(D)
    assert torch.equal(head(hidden, table).argmax(dim=1), head.transform(hidden).argmax(dim=1))


@pytest.mark.parametrize("layers", [1, 2])
def test_regions_that_are_padding_are_never_chosen(layers):
    head, hidden = drawn(RegionScoreHead(D, layers)), torch.randn(2, 4, D)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    scores = head(hidden, mask)
    assert scores.shape == (2, 4) and (scores[~mask] == PADDED).all()
    assert scores[0].softmax(dim=0)[2:].sum() == 0
    assert_close(scores[0, :2], head(hidden[:1, :2], mask[:1, :2])[0])


def test_an_answer_is_twice_as_wide_inside():
    head = drawn(AnswerHead(D, 3, relu=True))
    assert head.dense.weight.shape == (2 * D, D) and head(torch.randn(5, D)).shape == (5, 3)
    hidden = torch.randn(5, D)
    plain = drawn(AnswerHead(D, 3))
    assert not torch.allclose(head(hidden), plain(hidden)), "GELU is not ReLU"


def test_a_pair_is_read_whatever_is_padded_and_knows_left_from_right():
    head = drawn(PairHead(D, 2))
    left, right = torch.randn(2, 5, D), torch.randn(2, 4, D)
    masks = torch.arange(5) < torch.tensor([[3], [5]]), torch.arange(4) < torch.tensor([[4], [2]])
    found = head(left, right, *masks)
    left[~masks[0]], right[~masks[1]] = 9.0, -9.0
    assert_close(head(left, right, *masks), found)
    assert not torch.allclose(head(right, left, *reversed(masks)), found)
    alone = head(left[:1, :3], right[:1], masks[0][:1, :3], masks[1][:1])
    assert_close(alone, found[:1])
