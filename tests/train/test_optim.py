"""AdamW's groups, the averaged weights, and all of it there and back."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diptych.errors import CheckpointError
from diptych.train.optim import (
    AveragedWeights,
    clip_gradients,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from diptych.train.run import OptimSettings

CPU = torch.device("cpu")


def test_gains_biases_and_the_temperature_do_not_decay(small_room: ModuleType) -> None:
    model = small_room.SmallRoom(small_room.SmallConfig(batch_norm=True))
    optimizer = make_optimizer(model, OptimSettings(weight_decay=0.3), CPU)
    decays = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    by_name = {name: decays[id(one)] for name, one in model.named_parameters()}
    assert by_name == {
        "logit_scale": 0.0,
        "image.weight": 0.3,
        "image.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "word.weight": 0.3,
    }


def test_a_gradient_is_scaled_to_the_largest_norm_and_its_own_is_told() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert float(clip_gradients([weight], None)) == 5.0
    assert_close(weight.grad, torch.tensor([3.0, 4.0]))
    assert float(clip_gradients([weight], 2.5)) == 5.0
    assert_close(weight.grad, torch.tensor([1.5, 2.0]))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_breaks_no_other(broken: float) -> None:
    whole, hurt = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    whole.grad, hurt.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, broken, 1.0])
    assert not bool(torch.isfinite(clip_gradients([whole, hurt], 2.5)))
    assert_close(whole.grad, torch.tensor([3.0, 4.0]))


def test_the_average_moves_by_one_minus_its_decay() -> None:
    model = nn.BatchNorm1d(2)
    averaged = AveragedWeights(model, 0.75)
    with torch.no_grad():
        model.weight += 4.0  # 1 to 5
        model.num_batches_tracked += 3
    averaged.update(model)
    assert_close(averaged.tensors["weight"], torch.tensor([2.0, 2.0]))
    assert int(averaged.tensors["num_batches_tracked"]) == 3
    with averaged.in_place_of(model):
        assert_close(model.weight.detach(), torch.tensor([2.0, 2.0]))
    assert_close(model.weight.detach(), torch.tensor([5.0, 5.0]))


def test_the_optimizer_goes_on_from_named_tensors(small_room: ModuleType) -> None:
    def trained(model: nn.Module, optimizer: torch.optim.Optimizer, num: int) -> None:
        for step in range(num):
            optimizer.zero_grad()
            sum((one * (step + 1)).sin().sum() for one in model.parameters()).backward()
            optimizer.step()

    whole = small_room.SmallRoom(small_room.SmallConfig())
    trained(whole, whole_optimizer := make_optimizer(whole, OptimSettings(), CPU), 3)
    again = small_room.SmallRoom(small_room.SmallConfig())
    again.load_state_dict(whole.state_dict())
    load_optimizer(
        optimizer := make_optimizer(again, OptimSettings(), CPU), again, optimizer_tensors(whole_optimizer, whole)
    )
    for model, one in ((whole, whole_optimizer), (again, optimizer)):
        trained(model, one, 2)
    assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_tensors_of_another_model_are_refused(small_room: ModuleType) -> None:
    model = small_room.SmallRoom(small_room.SmallConfig())
    optimizer = make_optimizer(model, OptimSettings(), CPU)
    with pytest.raises(CheckpointError, match=r"exp_avg\.other\.weight"):
        load_optimizer(optimizer, model, {"exp_avg.other.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="another model"):
        load_optimizer(optimizer, model, {"exp_avg.word.weight": torch.zeros(2, 3)})


def test_heads_may_learn_faster() -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 3), "heads": nn.ModuleDict({"vqa": nn.Linear(3, 5)})})
    optimizer = make_optimizer(model, OptimSettings(head_lr=10.0), CPU)
    set_learning_rate(optimizer, 1e-3)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    assert {name: rates[id(one)] for name, one in model.named_parameters()} == pytest.approx(
        {"body.weight": 1e-3, "body.bias": 1e-3, "heads.vqa.weight": 1e-2, "heads.vqa.bias": 1e-2}
    )
