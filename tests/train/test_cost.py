"""What a model costs: operations counted by hand, memory against what a CPU really allocates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from diptych import systems
from diptych.clip.inputs import blank_batch
from diptych.clip.model import CLIP, ClipConfig
from diptych.data.batch import Batch
from diptych.objectives.objective import Dual
from diptych.overrides import apply_overrides
from diptych.train.cost import PairFlops, count_flops, hollow, model_cost

SMALL = ClipConfig(
    embed_dim=48,
    image_size=64,
    image_width=96,
    image_layers=(3,),
    image_heads=3,
    patch_size=8,
    context=24,
    vocab_size=64,
    end_id=63,
    text_width=64,
    text_layers=2,
    text_heads=4,
)
ROWS = 32


class Towers(nn.Module):
    """Two linear towers, E = 3, of 12 pixels and of T word vectors of 5 numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.word, self.text = nn.Linear(12, 3), nn.Embedding(7, 5), nn.Linear(5, 3)

    def forward(self, batch: Batch) -> Dual:
        assert batch.image is not None and batch.text is not None
        image = self.image(batch.image.pixels.flatten(1).float())
        text = self.text(self.word(batch.text.ids)).mean(1)
        return Dual(image=image, text=text, scale=image.new_ones(()), group=batch.group)


def test_operations_of_two_linear_towers_are_those_on_paper() -> None:
    tokens = 4
    model, blank = hollow(Towers(), "meta"), partial(blank_batch, ClipConfig(image_size=2))
    with torch.device("meta"):
        counted = count_flops(model, blank(1, tokens))
    forward = 2 * 12 * 3 + 2 * tokens * 5 * 3
    # Backward: the weight's gradient, and the gradient at what comes in where that learns: words do, pixels do not.
    assert counted == forward + 2 * 12 * 3 + 2 * (2 * tokens * 5 * 3)


def test_operations_are_linear_in_the_batch() -> None:
    model = hollow(CLIP(SMALL), "meta")
    with torch.device("meta"):
        one, five = (count_flops(model, blank_batch(SMALL, rows, 9)) for rows in (1, 5))
    assert five == 5 * one


@pytest.mark.parametrize("length", [1, 2, 7, 24])
def test_three_short_texts_tell_the_operations_of_any_length(length: int) -> None:
    model = CLIP(SMALL)
    with torch.device("meta"):
        counted = count_flops(hollow(model, "meta").eval(), blank_batch(SMALL, 1, length))
    assert PairFlops(model)(blank_batch(SMALL, 3, length)) == counted


def test_a_hollow_copy_leaves_the_model_alone() -> None:
    model = CLIP(SMALL)
    copied = hollow(model, "meta")
    assert {one.device.type for one in copied.parameters()} == {"meta"}
    assert {one.device.type for one in [*model.parameters(), *model.buffers()]} == {"cpu"}


@pytest.mark.slow
def test_vit_b_32_costs_what_is_known_of_it() -> None:
    run = apply_overrides(systems.recipe("clip", "vit_b_32"), ["training.activation_checkpointing=false"])
    cost = systems.cost_of(run, num_tokens=77)
    assert cost.parameters == 151_277_313  # docs/papers/clip.md
    # open_clip's table says 14.78 G multiplications with additions of a forward pass over both towers at full length;
    # ours skips five sixths of both last layers, and a backward pass is twice a forward.
    assert 2.5 * 14.78e9 < cost.flops < 3 * 14.78e9
    assert cost.batch_bytes == 3 * 224 * 224 + 77 * 9 + 8
    assert cost.vector_width == 2 * 512
    block = 12 * 768**2 + 13 * 768
    assert cost.largest_block == block
    assert cost.root == cost.parameters - 12 * block - 12 * (12 * 512**2 + 13 * 512)


def test_half_precision_and_checkpointing_keep_less() -> None:
    plain, half, again, both = (
        model_cost(CLIP(SMALL), partial(blank_batch, SMALL), num_tokens=24, autocast=autocast, recompute=recompute)
        for recompute in (False, True)
        for autocast in (None, torch.bfloat16)
    )
    assert 0.5 * plain.activation_bytes < half.activation_bytes < 0.7 * plain.activation_bytes
    # One of three layers is alive at a time, beside what came into each and the gradient on its way.
    assert again.activation_bytes < 0.7 * plain.activation_bytes
    assert both.activation_bytes < again.activation_bytes


@pytest.mark.parametrize("recompute", [False, True])
def test_memory_of_a_step_is_what_a_cpu_allocates(recompute: bool) -> None:
    """Within 10 %: the kernels' own working memory is not seen in shapes."""
    model = CLIP(SMALL).train()
    cost = model_cost(model, partial(blank_batch, SMALL), num_tokens=24, autocast=None, recompute=recompute)
    model.activation_checkpointing = recompute
    few, many = (allocated(model, rows) for rows in (ROWS, 2 * ROWS))
    assert (many - few) / ROWS == pytest.approx(cost.activation_bytes, rel=0.1)
    computed = cost.constant_bytes + 2 * ROWS * cost.activation_bytes
    gradients = 4 * cost.parameters  # those that are done lie beside
    assert computed * 0.9 < many < (computed + gradients) * 1.1


def allocated(model: CLIP, rows: int) -> int:
    """The most bytes that a forward and backward pass has at once, by torch's own account of its allocator."""
    batch = blank_batch(SMALL, rows, 24)
    assert batch.text is not None and batch.image is not None
    batch.text.ids.fill_(1)
    batch.image.pixels.fill_(1)
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        dual = model(batch)
        (dual.image.sum() + dual.text.sum()).backward()
    return max(accumulate(changes(seen)))


def changes(seen: profile) -> Iterator[int]:
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            yield event.nbytes()
