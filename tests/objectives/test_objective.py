"""Sums and counts: what makes splitting a batch invisible."""

from __future__ import annotations

import pytest
import torch

from diptych.objectives.objective import Loss


def loss(**terms: tuple[float, int, float]) -> Loss:
    made = Loss()
    for name, (total, count, weight) in terms.items():
        made = made + Loss.term(name, total=torch.tensor(total), count=count, weight=weight)
    return made


def test_terms_of_one_name_add_their_sums_and_counts() -> None:
    both = loss(mlm=(6.0, 4, 1.0)) + loss(mlm=(3.0, 2, 1.0), itm=(5.0, 1, 1.0))
    assert {name: (float(term.total), term.count) for name, term in both.terms.items()} == {
        "mlm": (9.0, 6),
        "itm": (5.0, 1),
    }
    assert both.means() == {"mlm": 1.5, "itm": 5.0}


def test_a_step_divides_each_term_by_the_counts_of_the_whole() -> None:
    part = loss(mlm=(6.0, 4, 1.0), itm=(5.0, 1, 0.5))
    assert float(part.divided({"mlm": 12, "itm": 5})) == pytest.approx(6 / 12 + 0.5 * 5 / 5)
    assert float(part.total()) == pytest.approx(6 + 2.5)


def test_a_term_of_nothing_costs_nothing_and_keeps_its_gradient() -> None:
    total = torch.tensor(0.0, requires_grad=True)
    nothing = Loss.term("mlm", total=total, count=0)
    assert float(nothing.divided({"mlm": 0}).detach()) == 0 and nothing.means() == {"mlm": 0.0}
    nothing.divided({"mlm": 0}).backward()
    assert total.grad is not None
