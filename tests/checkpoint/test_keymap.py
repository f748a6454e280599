"""Strict renaming: nothing lost, nothing left over, there and back bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.checkpoint.keymap import KeyMap, Rule, without_prefixes
from diptych.errors import WeightsError

KEYS = KeyMap(
    rules=(
        Rule("blocks.{}.qkv.{}", ("layer.{}.q.{}", "layer.{}.k.{}", "layer.{}.v.{}")),
        Rule("blocks.{}.norm.{}", "layer.{}.ln.{}"),
        Rule("proj", "projection.weight", transposed=True),
        Rule("scale", "scale"),
    ),
    ignore=(("*.position_ids", "a count from 0"),),
)


def ours() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "blocks.0.qkv.weight": torch.randn(6, 5),
        "blocks.0.qkv.bias": torch.randn(6),
        "blocks.11.norm.weight": torch.randn(5),
        "proj": torch.randn(5, 3),
        "scale": torch.tensor(2.0),
    }


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def test_names_and_shapes_of_the_other_side_are_as_written():
    theirs = KEYS.to_theirs(ours())
    assert {name: tuple(tensor.shape) for name, tensor in theirs.items()} == {
        "layer.0.q.weight": (2, 5),
        "layer.0.k.weight": (2, 5),
        "layer.0.v.weight": (2, 5),
        "layer.0.q.bias": (2,),
        "layer.0.k.bias": (2,),
        "layer.0.v.bias": (2,),
        "layer.11.ln.weight": (5,),
        "projection.weight": (3, 5),
        "scale": (),
    }
    assert torch.equal(theirs["projection.weight"], ours()["proj"].mT)
    assert torch.equal(theirs["layer.0.k.bias"], ours()["blocks.0.qkv.bias"][2:4])


def test_there_and_back_is_the_same():
    back = KEYS.to_ours(KEYS.to_theirs(ours()), shapes(ours()), "file")
    assert back.keys() == ours().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours().items())


def test_exported_tensors_share_no_memory():
    state = ours()
    KEYS.to_theirs(state)["layer.0.q.bias"].zero_()
    assert torch.equal(state["blocks.0.qkv.bias"], ours()["blocks.0.qkv.bias"])


@given(st.sampled_from(sorted(KEYS.to_theirs(ours()))))
def test_every_missing_key_is_named(key):
    theirs = KEYS.to_theirs(ours())
    del theirs[key]
    with pytest.raises(WeightsError, match=f"1 keys that the model needs are missing: {key}"):
        KEYS.to_ours(theirs, shapes(ours()), "file")


def test_all_that_does_not_fit_is_in_one_message():
    theirs = KEYS.to_theirs(ours())
    theirs["extra.bias"] = torch.zeros(2)
    theirs["scale"] = torch.zeros(2)
    del theirs["layer.11.ln.weight"]
    with pytest.raises(WeightsError) as caught:
        KEYS.to_ours(theirs, shapes(ours()), "weights.pt")
    message = str(caught.value)
    assert message.startswith("weights.pt does not fit")
    assert "missing: layer.11.ln.weight" in message
    assert "no place in the model: extra.bias" in message
    assert "scale is (2,), expected ()" in message


def test_long_lists_are_cut():
    theirs = {f"extra.{index}": torch.zeros(1) for index in range(40)}
    with pytest.raises(WeightsError, match=r"40 keys have no place.*and 34 more"):
        KEYS.to_ours({**KEYS.to_theirs(ours()), **theirs}, shapes(ours()), "file")


def test_what_is_ignored_is_ignored_with_its_reason():
    theirs = {**KEYS.to_theirs(ours()), "text.position_ids": torch.arange(3)}
    KEYS.to_ours(theirs, shapes(ours()), "file")
    assert KEYS.ignored(theirs) == {"text.position_ids": "a count from 0"}


def test_a_single_number_may_be_of_any_shape():
    theirs = {**KEYS.to_theirs(ours()), "scale": torch.tensor([2.0])}
    assert KEYS.to_ours(theirs, shapes(ours()), "file")["scale"].shape == ()


def test_a_name_without_a_rule_is_told():
    with pytest.raises(WeightsError, match=r"heads\.extra has no name in this layout"):
        KEYS.to_theirs({"heads.extra": torch.zeros(1)})


def test_prefixes_come_off_only_where_all_have_them():
    state = {"module._orig_mod.a": torch.zeros(1), "module._orig_mod.b": torch.ones(1)}
    assert list(without_prefixes(state, ("module.", "_orig_mod."))) == ["a", "b"]
    mixed = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert list(without_prefixes(mixed, ("module.",))) == ["module.a", "b"]
