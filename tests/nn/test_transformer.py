"""Blocks: what reading one position, masks, recomputation and half precision may and may not change."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from diptych.errors import ShapeError
from diptych.nn.attention import AttentionPool, SelfAttention
from diptych.nn.transformer import LayerNorm, QuickGELU, Transformer

B, L, D = 3, 5, 8


def transformer(*, causal: bool = False, depth: int = 3) -> Transformer:
    torch.manual_seed(0)
    return Transformer(D, depth, heads=2, mlp_width=12, activation="gelu", causal=causal)


def hidden() -> torch.Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("causal", [False, True])
def test_reading_one_position_is_the_whole_at_that_position(causal):
    model, position = transformer(causal=causal), torch.tensor([4, 0, 2])
    mask = None if causal else torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    whole = model(hidden(), mask)
    one = model(hidden(), mask, position=position)
    assert_close(one, whole[torch.arange(B), position], atol=1e-6, rtol=1e-5)


def test_a_causal_position_does_not_see_what_follows():
    model, other = transformer(causal=True), hidden()
    other[:, 3:] = 7.0
    assert_close(model(hidden())[:, :3], model(other)[:, :3])
    assert not torch.allclose(model(hidden())[:, 3:], model(other)[:, 3:])


def test_masked_positions_change_nothing():
    model, other = transformer(), hidden()
    mask = torch.arange(L) < torch.tensor([[3], [5], [1]])
    other[~mask] = 9.0
    assert_close(model(hidden(), mask)[mask], model(other, mask)[mask])


def test_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(D, 2), nn.MultiheadAttention(D, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    mask = torch.arange(L) < torch.tensor([[3], [5], [1]])
    expected, _ = theirs(hidden(), hidden(), hidden(), key_padding_mask=~mask)
    assert_close(ours(hidden(), mask), expected, atol=1e-6, rtol=1e-5)


def test_heads_must_divide_the_width():
    with pytest.raises(ShapeError, match="width 8 is no multiple of 3 heads"):
        SelfAttention(8, 3)


@given(st.floats(-30, 30))
def test_quick_gelu_is_the_paper_sum(value):
    expected = value / (1 + math.exp(-1.702 * value))
    assert_close(QuickGELU()(torch.tensor(value)).item(), expected, atol=1e-5, rtol=1e-5)


def test_the_norm_computes_in_float32_and_gives_back_what_came():
    values = 1000 + torch.randn(B, D, generator=torch.Generator().manual_seed(0))
    norm = LayerNorm(D).bfloat16()
    out = norm(values.bfloat16())
    assert out.dtype == torch.bfloat16
    expected = nn.functional.layer_norm(values.bfloat16().float(), (D,))
    assert_close(out.float(), expected, atol=1e-2, rtol=1e-2)  # the rounding of bfloat16 itself, no more


@pytest.mark.parametrize("position", [None, torch.tensor([4, 0, 2])])
def test_recomputing_changes_no_gradient(position):
    gradients = []
    for recompute in (False, True):
        model, inputs = transformer(causal=True), hidden().requires_grad_()
        model(inputs, position=position, recompute=recompute).square().sum().backward()
        gradients.append([inputs.grad, *(parameter.grad for parameter in model.parameters())])
    for plain, recomputed in zip(*gradients, strict=True):
        assert_close(plain, recomputed, atol=0, rtol=0)


def test_the_attention_pools_query_is_the_mean_alone():
    torch.manual_seed(0)
    pool = AttentionPool(side=2, width=D, heads=2, out_width=6)
    feature_map = torch.randn(B, D, 2, 2)
    cells = feature_map.flatten(2).mT
    cells = torch.cat([cells.mean(1, keepdim=True), cells], dim=1) + pool.positional_embedding
    weights = torch.cat([pool.q_proj.weight, pool.k_proj.weight, pool.v_proj.weight])
    biases = torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias])
    expected, _ = nn.functional.multi_head_attention_forward(
        cells.mT.permute(2, 0, 1), cells.mT.permute(2, 0, 1), cells.mT.permute(2, 0, 1), D, 2, weights, biases,
        None, None, False, 0.0, torch.eye(D), torch.zeros(D),
    )  # fmt: skip
    assert_close(pool(feature_map), pool.c_proj(expected[0]), atol=1e-6, rtol=1e-5)
