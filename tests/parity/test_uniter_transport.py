"""Word-region alignment's transport against the released solver: cost, plan, distance, gradient."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from diptych.objectives.transport import cosine_cost, transport_plan


@pytest.fixture(scope="module")
def uniter(golden, device):
    return golden("uniter", device)


def test_every_case_of_the_solver(uniter):
    cases = uniter.facts["ipot_cases"]
    assert cases
    for name, settings in cases.items():
        assert settings["k"] == 1, f"{name}: only one inner step is defined"
        words, regions = uniter[f"{name}/x"].requires_grad_(), uniter[f"{name}/y"]
        masks = uniter[f"{name}/x_pad"] == 0, uniter[f"{name}/y_pad"] == 0
        cost = cosine_cost(words, regions, *masks)
        plan = transport_plan(cost, *masks, beta=settings["beta"], steps=settings["iteration"])
        distance = (cost * plan).sum(dim=(1, 2))
        distance.sum().backward()

        close = {"atol": 1e-6, "rtol": 1e-5, "msg": lambda told, of=name: f"{of}: {told}"}
        assert_close(cost, uniter[f"{name}/cost"], **close)
        assert_close(plan.mT, uniter[f"{name}/plan"], **close)
        assert_close(distance, uniter[f"{name}/distance"], **close)
        assert_close(words.grad, uniter[f"{name}/grad_x"], **close)


def test_the_states_of_the_matching_task(uniter):
    inputs = "itm/ot_inputs/"
    masks = uniter[inputs + "txt_pad"] == 0, uniter[inputs + "img_pad"] == 0
    cost = cosine_cost(uniter["ot/txt_states"], uniter["ot/img_states"], *masks)
    plan = transport_plan(cost, *masks)
    assert_close(cost, uniter["ot/cost"], atol=1e-6, rtol=1e-5)
    assert_close(plan.mT, uniter["ot/plan"], atol=1e-6, rtol=1e-5)
    assert_close((cost * plan).sum(dim=(1, 2)), uniter["ot/distance"], atol=1e-6, rtol=1e-5)
