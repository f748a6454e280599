"""The rules by hand, and against what their releases say in words, computed in the slowest way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.detector.boxes import nms
from diptych.detector.selection import (
    RULES,
    ButdRule,
    Candidates,
    LxmertRule,
    NotebookRule,
    nms_by_class,
    rule_class,
)
from diptych.errors import UsageError


def candidates(proposals, class_probs, *, scale=1.0, plus_one=False, shift=0.0):
    proposals = torch.as_tensor(proposals, dtype=torch.float32)
    return Candidates(
        boxes=proposals,
        class_probs=torch.as_tensor(class_probs, dtype=torch.float32),
        regress=lambda rows, class_ids: proposals[rows] + shift * class_ids[:, None],
        scale=torch.full((4,), scale),
        plus_one=plus_one,
    )


# Boxes 0 and 1 overlap by IoU 0.6, box 2 lies apart. Columns: background, cat, dog.
THREE = candidates(
    [[0, 0, 10, 8], [0, 0, 10, 4.8], [20, 20, 30, 30]], [[0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]
)


def test_a_box_is_as_confident_as_the_best_class_it_survives_in():
    selected = ButdRule(min_boxes=0, max_boxes=9, confidence=0.05, nms=0.3).select(THREE)
    assert selected.rows.tolist() == [0, 1, 2]  # box 1 loses cat to box 0 and keeps dog
    assert selected.scores.tolist() == pytest.approx([0.8, 0.3, 0.2])
    assert selected.class_ids.tolist() == [0, 0, 1]  # of the unfiltered probabilities


def test_limits_act_on_the_confident_ones():
    def rows(least, most):
        return ButdRule(min_boxes=least, max_boxes=most, confidence=0.25).select(THREE).rows.tolist()

    assert rows(0, 9) == [0, 1]
    assert rows(3, 9) == [0, 1, 2]
    assert rows(0, 1) == [0]
    assert rows(7, 9) == [0, 1, 2]  # there are no more


def test_the_release_wrote_rows_in_the_order_of_proposals_unless_a_limit_acted():
    probs = [[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]]
    apart = candidates([[0, 0, 4, 4], [9, 9, 14, 14]], probs)
    assert ButdRule(min_boxes=1, max_boxes=9).select(apart).rows.tolist() == [1, 0]
    assert ButdRule(min_boxes=1, max_boxes=9, release_order=True).select(apart).rows.tolist() == [0, 1]
    assert ButdRule(min_boxes=1, max_boxes=1, release_order=True).select(apart).rows.tolist() == [1]


def test_one_suppression_over_all_classes():
    selected = LxmertRule(min_boxes=1, max_boxes=9, nms=(0.5,)).select(THREE)
    assert (selected.rows.tolist(), selected.class_ids.tolist()) == ([0, 2], [0, 1])
    assert LxmertRule(min_boxes=3, max_boxes=9, nms=(0.5, 0.7)).select(THREE).rows.tolist() == [0, 1, 2]
    assert LxmertRule(min_boxes=9, max_boxes=9, nms=(0.7, 0.5)).select(THREE).rows.tolist() == [0, 2]  # what there is


def test_a_region_may_stand_for_two_classes():
    selected = NotebookRule(min_boxes=0, max_boxes=9, confidence=0.15, nms=(0.5,)).select(THREE)
    pairs = list(zip(selected.rows.tolist(), selected.class_ids.tolist(), strict=True))
    assert pairs == [(0, 0), (1, 1), (2, 1)]
    assert NotebookRule(confidence=0.99).select(THREE).rows.tolist() == []


def test_classes_far_apart_in_number_are_suppressed_to_the_last_bit():
    """IoU 0.5 + 1e-5: moving class 1,599 away by adding to its boxes would round that off."""
    pair = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 100.0, 50.001]])
    class_ids = torch.tensor([1599, 1599])
    assert nms_by_class(pair, torch.tensor([0.4, 0.3]), class_ids, 0.5, plus_one=False).tolist() == [0]


@given(
    seed=st.integers(0, 10**6),
    least=st.integers(0, 9),
    more=st.integers(1, 5),
    confidence=st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    plus_one=st.booleans(),
)
def test_the_original_rule_is_that_over_all_classes_and_boxes(seed, least, more, confidence, plus_one):
    """The floor that sinks leaves out only what cannot decide."""
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(8, 2, generator=generator)
    proposals = torch.cat([corner, corner + 5 + 30 * torch.rand(8, 2, generator=generator)], dim=1)
    probs = (3 * torch.randn(8, 6, generator=generator)).softmax(dim=1)
    found = candidates(proposals.tolist(), probs, scale=1.5, plus_one=plus_one)
    conf = torch.zeros(8)
    for class_id in range(1, 6):
        kept = nms(found.boxes / 1.5, probs[:, class_id], 0.3, plus_one=plus_one)
        conf[kept] = conf[kept].maximum(probs[kept, class_id])
    number = min(max(int((conf >= confidence).sum()), least), least + more)
    expected = conf.argsort(descending=True, stable=True)[:number]
    selected = ButdRule(min_boxes=least, max_boxes=least + more, confidence=confidence).select(found)
    assert selected.rows.tolist() == expected.tolist()
    assert torch.equal(selected.scores, conf[expected])


@pytest.mark.parametrize("rule", [ButdRule(), LxmertRule(), NotebookRule()])
def test_no_proposals_select_nothing(rule):
    nothing = candidates(torch.zeros(0, 4), torch.zeros(0, 3))
    assert rule.select(nothing).rows.tolist() == []


def test_rules_say_their_numbers_and_go_by_name():
    assert str(ButdRule(min_boxes=10, max_boxes=100)) == "butd(min=10, max=100, conf=0.2, nms=0.3)"
    assert str(LxmertRule(nms=(0.5, 0.6))) == "lxmert(min=36, max=36, nms=0.5/0.6)"
    for name in RULES:
        assert str(rule_class(name)()).startswith(name + "(")
    with pytest.raises(UsageError, match="did you mean 'lxmert'"):
        rule_class("lxmrt")


@pytest.mark.parametrize(
    ("rule", "numbers", "message"),
    [
        (ButdRule, {"min_boxes": -3}, "min_boxes=-3 and max_boxes=100; expected at least 0 and at least 1"),
        (ButdRule, {"min_boxes": 0, "max_boxes": 0}, "max_boxes=0; expected"),
        (LxmertRule, {"max_boxes": 20}, "min_boxes=36 is more than max_boxes=20; set both"),
        (ButdRule, {"confidence": 7.0}, "confidence=7.0; expected from 0 to 1"),
        (NotebookRule, {"confidence": float("nan")}, "confidence=nan; expected from 0 to 1"),
        (ButdRule, {"nms": -0.1}, "nms=-0.1; expected from 0 to 1"),
        (NotebookRule, {"nms": (0.5, 1.5)}, "nms=0.5/1.5; expected from 0 to 1"),
        (LxmertRule, {"nms": ()}, "nms=; expected from 0 to 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(rule, numbers, message):
    with pytest.raises(UsageError, match=message):
        rule(**numbers)
