"""A run on a machine: which way is taken, what is said not to fit, and that the changes save what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych import systems
from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.progress import spoken_size
from diptych.systems.sizing import Change, Machine, Sized, sized
from diptych.train.budget import USABLE
from diptych.train.cost import ModelCost
from diptych.train.run import Run

COST = ModelCost(
    parameters=1_000_000,
    flops=600,
    activation_bytes=50_000,
    constant_bytes=7,
    batch_bytes=300,
    vector_width=10,
    largest_block=100_000,
    root=200_000,
)
RUN = apply_overrides(systems.recipe("clip", "tiny"), ["training.batch=512"])
STATES = 4 * 4 * 1_000_000
"""Weights, gradients and two moments."""


def costs(run: Run) -> ModelCost:
    """Activation checkpointing keeps a fifth, half precision a half."""
    kept = COST.activation_bytes
    kept //= 5 if run.training.activation_checkpointing else 1
    kept //= 1 if run.training.precision == "float32" else 2
    return replace(COST, activation_bytes=kept)


def on(ranks: int, memory: float, *changes: str, parallels: tuple[str, ...] = ("ddp", "fsdp2")) -> Sized:
    """RUN where tensors can have so many bytes of each rank."""
    machine = Machine(ranks=ranks, memory=int(memory / USABLE) + 1, peak=1200.0, utilisation=0.5)
    return sized(apply_overrides(RUN, changes), machine, parallels, costs)  # type: ignore[arg-type]


def change(found: Sized, name: str) -> Change:
    return next(one for one in found.changes if any(name in word for word in one.words))


def test_where_both_fit_ddp_is_used_because_it_sends_less() -> None:
    found = on(4, 1e9)
    ddp, fsdp2 = found.ways
    assert found.used is ddp and ddp.sent < fsdp2.sent
    assert found.why == "both fit, and DDP sends less"
    assert (found.too_large, found.changes, ddp.layout.micro_batch) == (None, [], 128)


def test_where_ddp_alone_needs_caching_fsdp2_is_used() -> None:
    """DDP: 20 MB of states and buckets, and 6.4 MB of activations at once."""
    found = on(4, 22e6)
    assert [way.layout.caching for way in found.ways] == [True, False]
    assert found.used.layout.parallel == "fsdp2"
    assert found.why == "DDP needs gradient caching: 1.33 times the pairs a second without"


def test_where_the_weights_of_ddp_do_not_fit_fsdp2_is_used() -> None:
    found = on(8, STATES)
    assert found.used.layout.parallel == "fsdp2" and found.why == "DDP does not fit"
    assert found.ways[0].too_large == "exchange"


def test_caching_follows_with_equal_parts_and_the_activations_are_named() -> None:
    """Room for 200 of 512 pairs: three parts, of 171 rather than of 200, 200 and 112."""
    memory = sum(on(1, 1e12, "training.micro_batch=200").used.memory.values())
    found = on(1, memory, parallels=("ddp",))
    assert (found.used.layout.micro_batch, found.used.layout.parts) == (171, 3)
    assert found.too_large is not None
    assert (found.too_large.too_large, found.too_large.layout.micro_batch) == ("activations", 512)
    enough = ["training.micro_batch=171", "training.activation_checkpointing=true", "2"]  # two GPUs the last
    assert [one.words[1] for one in found.changes if one.fits] == enough
    assert change(found, "micro_batch").saves == (512 - 171) * 50_000


def test_a_stated_micro_batch_stays() -> None:
    found = on(1, STATES + 100 * 50_000, "training.micro_batch=300", parallels=("ddp",))
    assert found.used.layout.micro_batch == 300 and found.used.spare < 0
    assert found.too_large is found.used
    assert 0 < int(change(found, "micro_batch").words[1].partition("=")[2]) < 100


def test_a_micro_batch_of_none_is_all_of_a_rank_whether_they_fit_or_not() -> None:
    found = on(2, STATES + 100 * 50_000, "training.micro_batch=none", parallels=("ddp",))
    assert (found.used.layout.micro_batch, found.used.layout.parts) == (256, 1)
    assert found.used.spare < 0 and found.too_large is found.used


def test_a_micro_batch_beyond_the_rank_is_all_of_the_rank() -> None:
    found = on(2, 1e12, "training.micro_batch=100000")
    assert [way.layout.micro_batch for way in found.ways] == [256, 256]


def test_fp16_leaves_fsdp2_out_unless_there_is_one_rank() -> None:
    """As the learner does."""
    found = on(8, STATES / 4, "training.precision=fp16")
    assert [way.layout.parallel for way in found.ways] == ["ddp"]
    assert found.why == "under FSDP2, fp16's loss scale is not kept over shares of weights"
    assert not any("fsdp2" in one.words for one in found.changes)
    assert on(1, 1e12, "training.precision=fp16", parallels=("fsdp2",)).why == ""
    alone = on(1, STATES / 4, "training.precision=fp16", parallels=("ddp",))
    assert not any("--gpus" in one.words for one in alone.changes)  # DDP has as many weights on each of two
    with pytest.raises(UsageError, match=r"FSDP2 takes no fp16: .* set training\.precision=bf16"):
        on(8, 1e12, "training.precision=fp16", parallels=("fsdp2",))


def test_where_not_a_pair_fits_the_weights_are_named_and_more_ranks_help_fsdp2() -> None:
    found = on(2, STATES / 4, "optim.ema=0.9")
    assert found.used.layout.parallel == "fsdp2"
    assert found.why == "neither fits, and FSDP2 needs less"
    assert found.used.too_large == "gradients"
    assert found.too_large is found.used and found.used.layout.micro_batch == 1
    assert change(found, "ema").saves == 4 * 1_000_000 // 2
    assert change(found, "--gpus").words == ("--gpus", "4")


def test_rows_that_do_not_see_each_other_need_no_caching() -> None:
    run = apply_overrides(systems.recipe("clip", "figure2_captioning"), ["training.batch=512"])
    machine = Machine(ranks=1, memory=int((STATES + 200 * 50_000) / USABLE), peak=1200.0, utilisation=0.5)
    used = sized(run, machine, ["ddp"], costs).used
    assert used.layout.parts > 1 and not used.layout.caching
    assert used.pairs_per_s == 0.5 * 1200 / 600
    assert (used.memory["vectors"], used.memory["tiles"]) == (0, 0)


def test_without_checkpointing_is_told_where_it_fits_and_is_faster() -> None:
    with_it = on(1, STATES + 512 * 10_000 + 5e6, "training.activation_checkpointing=true", parallels=("ddp",))
    assert not with_it.used.layout.caching and with_it.faster is None  # without, caching would cost as much
    less = on(1, STATES + 100 * 10_000 + 5e6, "training.activation_checkpointing=true", parallels=("ddp",))
    assert less.used.layout.caching and less.faster is not None
    assert less.faster.pairs_per_s == pytest.approx(5 / 4 * less.used.pairs_per_s)


def test_without_checkpointing_is_faster_too_where_nothing_is_cached() -> None:
    roomy = on(1, 1e12, "training.activation_checkpointing=true", parallels=("ddp",))
    assert not roomy.used.layout.caching and roomy.faster is not None
    assert roomy.faster.pairs_per_s == pytest.approx(4 / 3 * roomy.used.pairs_per_s)


def test_what_does_not_fit_is_not_counted_again_without_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[bool] = []

    def costs_of(run: Run) -> ModelCost:
        counted.append(run.training.activation_checkpointing)
        return costs(run)

    run = apply_overrides(RUN, ["training.activation_checkpointing=true"])
    machine = Machine(ranks=1, memory=STATES // 2, peak=1200.0, utilisation=0.5)
    assert sized(run, machine, ["ddp"], costs_of).faster is None
    assert all(counted)


def test_more_ranks_than_pairs_are_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 512 on 513 GPUs leaves some without a pair"):
        on(513, 1e9)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (33_149, "33.1 kB"),
        (999_700_000, "1.00 GB"),
        (-9_996_000_000, "-10.0 GB"),
        (171.7e9, "172 GB"),
        (5e18, "5000 PB"),
    ],
)
def test_a_size_is_said_in_three_digits(size: float, said: str) -> None:
    assert spoken_size(size) == said


@settings(max_examples=30, deadline=None)
@given(
    memory=st.integers(5_000_000, 80_000_000),
    ranks=st.integers(1, 9),
    changes=st.sets(st.sampled_from(["optim.ema=0.9", "training.activation_checkpointing=true"])),
)
def test_every_change_saves_what_it_says(memory: int, ranks: int, changes: set[str]) -> None:
    """Turned as a user would, by the same run with the words added."""
    found = on(ranks, memory, *changes)
    if found.too_large is None:
        return
    pairs = f"training.micro_batch={found.too_large.layout.micro_batch}"
    for one in found.changes:
        name, value = one.words
        if name == "--batch" or (name == "--set" and "micro_batch" in value):
            continue  # these change the pairs at once
        other = on(
            int(value) if name == "--gpus" else ranks,
            memory,
            *changes,
            pairs,
            *([value] if name == "--set" else []),
            parallels=(value if name == "--parallel" else "fsdp2" if ranks == 1 else found.used.layout.parallel,),
        ).used
        assert found.too_large.needed - other.needed == one.saves > 0
        assert (other.spare >= 0) == one.fits
