"""Padding is left out, and nobody can tell: outputs and gradients of packed rows are those of padded ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.errors import ShapeError
from diptych.nn.attention import SelfAttention
from diptych.nn.bert import BertEncoder, BertTextEmbedding
from diptych.nn.packing import WASTE, Packing

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def mask_of(sizes, length=None):
    return torch.arange(length or max(sizes)) < torch.tensor(sizes)[:, None]


def encoder(**dropout):
    torch.manual_seed(0)
    made = BertEncoder(8, 2, 2, 12, **{"dropout": 0.0, "attention_dropout": 0.0, **dropout})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_by_hand():
    packing = Packing.of(mask_of([1, 3, 2]))
    assert packing.index.tolist() == [3, 4, 5, 6, 7, 0], "the longest row first"
    padded = torch.arange(9.0).view(3, 3, 1)
    packed = packing.pack(padded)
    assert packed.flatten().tolist() == [3, 4, 5, 6, 7, 0]
    assert packing.unpack(packed).squeeze(2).tolist() == [[0, 0, 0], [3, 4, 5], [6, 7, 0]]


def test_holes_between_real_positions_are_left_out_too():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    assert Packing.of(mask).index.tolist() == [0, 2, 4]


def test_rows_of_one_length_are_not_padded():
    (group,) = Packing.of(mask_of([4, 4, 4], length=6)).groups
    assert (group.rows, group.length, group.mask) == (3, 4, None)


@given(lengths)
def test_groups_hold_all_rows_and_little_padding(sizes):
    packing = Packing.of(mask_of(sizes))
    assert sum(group.rows for group in packing.groups) == len(sizes)
    for group in packing.groups:
        real = group.stop - group.start
        assert real <= group.rows * group.length <= WASTE * real
        values = torch.randn(sum(sizes), 5)
        assert torch.equal(group.packed(group.padded(values)), values[group.start : group.stop])


def reference(model, hidden, mask):
    """Every row alone, by torch's own layers, which know no packing."""
    rows = []
    for row, real in zip(hidden, mask, strict=True):
        out = row[real][None]
        for block in model.blocks:
            attn = block.attn
            context, _ = torch.nn.functional.multi_head_attention_forward(
                *[out.transpose(0, 1)] * 3,
                out.shape[2],
                attn.heads,
                attn.in_proj_weight,
                attn.in_proj_bias,
                None,
                None,
                False,
                0.0,
                attn.out_proj.weight,
                attn.out_proj.bias,
            )
            out = block.ln_1(out + context.transpose(0, 1))
            out = block.ln_2(out + block.mlp(out))
        rows.append(torch.zeros_like(row).index_copy(0, real.nonzero().squeeze(1), out[0]))
    return torch.stack(rows)


@given(lengths, st.integers(0, 3))
def test_packed_equals_padded_in_outputs_and_gradients(sizes, more):
    model, mask = encoder(), mask_of(sizes, max(sizes) + more)
    found = []
    for forward in (model, lambda hidden, mask: reference(model, hidden, mask)):
        torch.manual_seed(1)
        hidden = torch.randn(*mask.shape, 8, requires_grad=True)
        out = forward(hidden, mask)
        weight = torch.randn_like(out)
        model.zero_grad()
        (out * weight).sum().backward()
        found.append([out, hidden.grad, *[one.grad.clone() for one in model.parameters()]])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert not found[0][0][~mask].any() and not found[0][1][~mask].any()


@pytest.mark.parametrize("recompute", [False, True])
def test_states_that_alone_are_read_are_as_they_were(recompute):
    """Outputs and gradients are those of all states, where nothing is asked of the others; one row is not read."""
    model, mask = encoder(), mask_of([5, 2, 7, 7], 8)
    read = mask & (torch.arange(8) % 3 == 1) & torch.tensor([True, False, True, True])[:, None]
    hidden, weight = torch.randn(4, 8, 8), torch.randn(int(read.sum()), 8)
    found = []
    for asked in (None, read):
        model.zero_grad()
        given = hidden.clone().requires_grad_()
        out = model(given, mask, read=asked, recompute=recompute)
        (out[read] * weight).sum().backward()
        found.append([out[read], given.grad, *[one.grad.clone() for one in model.parameters()]])
    for all_states, some in zip(*found, strict=True):
        assert_close(some, all_states, atol=1e-5, rtol=1e-4)
    assert not out[~read].any()


@pytest.mark.gpu
@pytest.mark.parametrize("width", [8, 30, 64])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_the_kernel_of_a_gpu_finds_what_rows_alone_find_on_a_cpu(width, autocast):
    """Heads of 4, 15 and 32 numbers: kernels take the last alone in half precision."""
    torch.manual_seed(2)
    model = BertEncoder(width, 2, 2, 12, dropout=0.0, attention_dropout=0.0)
    mask = mask_of([3, 70, 1, 9, 130], 133)
    hidden = torch.randn(*mask.shape, width)
    weight = torch.randn_like(hidden)
    found = []
    for device in ("cuda", "cpu"):
        model.to(device).zero_grad()
        given = hidden.to(device).requires_grad_()
        with torch.autocast("cuda", dtype=autocast, enabled=autocast is not None and device == "cuda"):
            out = model(given, mask.to(device)) if device == "cuda" else reference(model, given, mask)
        (out * weight.to(device)).sum().backward()
        found.append([one.cpu() for one in (out.float(), given.grad, *(one.grad for one in model.parameters()))])
    bound = {None: 1e-5, torch.float16: 3e-3, torch.bfloat16: 3e-2}[autocast]
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= bound * theirs.norm() + 1e-4 * weight.norm() * bound


@pytest.mark.gpu
def test_dropout_of_attention_on_a_gpu():
    """Drawn anew by each seed, the same by the same, and on average nothing."""
    model = encoder(attention_dropout=0.4).to("cuda")
    mask = mask_of([3, 70, 9]).cuda()
    hidden = torch.randn(*mask.shape, 8, device="cuda")

    def seeded(seed, recompute=False):
        torch.manual_seed(seed)
        given = hidden.clone().requires_grad_()
        out = model(given, mask, recompute=recompute)
        out.square().sum().backward()
        return out.detach(), given.grad

    model.train()
    assert_close(seeded(1), seeded(1, recompute=True))
    assert not torch.allclose(seeded(1)[0], seeded(2)[0])
    attention, packing = model.blocks[0].attn, Packing.of(mask)
    packed = packing.pack(hidden)
    drawn = torch.stack([attention.packed(packed, packing) for _ in range(2000)]).mean(dim=0)
    assert_close(drawn, attention.eval().packed(packed, packing), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_gradients_under_dropout_are_those_of_what_was_drawn(device):
    """Against finite differences, with the same draw at each point: a kernel could draw anew on its way back."""
    torch.manual_seed(3)
    dtype, step, bound = (torch.float64, 1e-6, 1e-6) if device == "cpu" else (torch.float32, 1e-2, 1e-2)
    attention = SelfAttention(8, 2, dropout=0.4).to(device, dtype).train()
    packing = Packing.of(mask_of([3, 40, 9]).to(device))
    hidden = torch.randn(52, 8, device=device, dtype=dtype)
    weight = torch.randn_like(hidden)

    def drawn(given):
        torch.manual_seed(5)
        return (attention.packed(given, packing) * weight).sum()

    given = hidden.clone().requires_grad_()
    drawn(given).backward()
    way = given.grad / given.grad.norm()
    with torch.no_grad():
        slope = (drawn(hidden + step * way) - drawn(hidden - step * way)) / (2 * step)
    assert_close(slope, given.grad.norm(), rtol=bound, atol=0)


def test_no_kernel_is_asked_where_attention_drops_weights(monkeypatch):
    """A GPU's kernel for float32 kept networks from learning under dropout."""
    asked = []
    monkeypatch.setattr("diptych.nn.attention.ragged_kernel", lambda *of: asked.append(of))
    packing, hidden = Packing.of(mask_of([3, 5])), torch.randn(8, 8)
    SelfAttention(8, 2, dropout=0.1).train().packed(hidden, packing)
    assert not asked
    SelfAttention(8, 2, dropout=0.1).eval().packed(hidden, packing)
    SelfAttention(8, 2).train().packed(hidden, packing)
    assert len(asked) == 2


def test_recomputation_changes_no_gradient():
    model = encoder(dropout=0.3, attention_dropout=0.3).train()
    mask = mask_of([3, 5, 1])
    found = []
    for recompute in (False, True):
        torch.manual_seed(4)
        hidden = torch.randn(3, 5, 8, requires_grad=True)
        model(hidden, mask, recompute=recompute).square().sum().backward()
        found.append(hidden.grad)
    assert torch.equal(*found)


def test_dropout_of_attention_is_for_training_alone():
    model, mask = encoder(attention_dropout=0.5), mask_of([3, 5])
    hidden = torch.randn(2, 5, 8)
    rested = model.eval()(hidden, mask)
    assert torch.equal(rested, model(hidden, mask))
    assert not torch.allclose(rested, model.train()(hidden, mask))


def test_a_row_never_sees_another():
    model, mask = encoder().eval(), mask_of([3, 5, 4])
    hidden = torch.randn(3, 5, 8)
    before = model(hidden, mask)
    hidden[1] += 1
    after = model(hidden, mask)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])


def test_shapes_alone_count_every_position():
    mask = torch.empty(2, 3, dtype=torch.bool, device="meta")
    model = encoder().to("meta")
    assert model(torch.empty(2, 3, 8, device="meta"), mask).shape == (2, 3, 8)


def test_texts_longer_than_the_table_of_positions():
    embedding = BertTextEmbedding(11, 4, 2, 8, 0.0)
    with pytest.raises(ShapeError, match="texts of 5 tokens; the table of positions has 4"):
        embedding(torch.ones(2, 5, dtype=torch.int64))


def test_weights_to_look_at_are_those_that_the_kernel_takes():
    torch.manual_seed(4)
    encoder = BertEncoder(6, 2, 3, 10, dropout=0.0, attention_dropout=0.0).eval()
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]]).bool()
    hidden = torch.randn(2, 5, 6)
    weights = encoder.attention(hidden, mask)  # (depth, B, H, L, L)
    assert weights.shape == (2, 2, 3, 5, 5)
    assert_close(weights.sum(dim=-1), torch.ones(2, 2, 3, 5))
    assert not weights[:, 0, :, :, ~mask[0]].any()
    packing = Packing.of(mask)
    packed = packing.pack(hidden)
    for block, found in zip(encoder.blocks, weights, strict=True):
        attn = block.attn
        value = torch.nn.functional.linear(packing.unpack(packed), attn.in_proj_weight[12:], attn.in_proj_bias[12:])
        context = (found @ value.unflatten(-1, (3, 2)).transpose(1, 2)).transpose(1, 2).flatten(2)
        assert_close(packing.pack(attn.out_proj(context)), attn.packed(packed, packing))
        packed = block(packed, packing)
