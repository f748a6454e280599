"""A step's memory, exchange and speed by formula: cases that can be done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.train.budget import (
    PARTS,
    USABLE,
    Layout,
    bytes_exchanged,
    first_too_large,
    largest_batch,
    largest_micro_batch,
    memory_parts,
    pairs_per_s,
)
from diptych.train.cost import ModelCost

COST = ModelCost(
    parameters=1000,
    flops=600,
    activation_bytes=50,
    constant_bytes=7,
    batch_bytes=3,
    vector_width=10,
    largest_block=100,
    root=200,
)
DDP = Layout(batch=64, ranks=4, parallel="ddp", micro_batch=8)
FSDP2 = replace(DDP, parallel="fsdp2")


def test_a_rank_of_ddp_has_all_weights_and_one_of_fsdp2_its_share() -> None:
    whole, share = memory_parts(COST, DDP), memory_parts(COST, FSDP2)
    assert (whole["weights"], whole["gradients"], whole["moments"], whole["exchange"]) == (4000, 4000, 8000, 4000)
    assert (share["weights"], share["moments"]) == (1000, 2000)
    assert share["gradients"] == 4000  # whole ones are added up over the two micro-batches
    at_once = memory_parts(COST, replace(FSDP2, micro_batch=16))
    assert at_once["gradients"] == 1000
    assert at_once["exchange"] == 2 * 4 * (200 + 2 * 100)
    assert memory_parts(COST, DDP, averaged=True)["averaged weights"] == 4000
    assert tuple(whole) == tuple(share) == PARTS


def test_one_rank_exchanges_nothing_and_keeps_nothing_for_it() -> None:
    for parallel in ("ddp", "fsdp2"):
        alone = Layout(batch=64, ranks=1, parallel=parallel, micro_batch=64)
        assert memory_parts(COST, alone)["exchange"] == 0
        assert set(bytes_exchanged(COST, alone).values()) == {0}


def test_bytes_exchanged_by_hand() -> None:
    """Four ranks: three quarters of a tensor leave a rank in a ring."""
    replicas = bytes_exchanged(COST, DDP)
    assert replicas["gradients added up"] == 2 * 3000
    assert replicas["weights gathered"] == 0
    assert replicas["vector gradients scattered"] == 3 * 64 * 10 * 4 // 4
    assert replicas["vectors gathered"] == 3 * (64 * 10 * 4 + 64 * 8) // 4
    assert bytes_exchanged(COST, FSDP2)["weights gathered"] == 3 * 2 * 3000  # two micro-batches, three passes of each
    assert bytes_exchanged(COST, replace(FSDP2, micro_batch=16))["weights gathered"] == 2 * 3000
    assert bytes_exchanged(COST, FSDP2)["gradients added up"] == 3000


def test_what_is_computed_again_takes_a_third_more() -> None:
    at_once = replace(DDP, micro_batch=16)
    plain = pairs_per_s(COST, at_once, peak=1200.0, utilisation=0.5, recompute=False)
    assert plain == 4 * 0.5 * 1200 / 600
    assert pairs_per_s(COST, DDP, peak=1200.0, utilisation=0.5, recompute=False) == pytest.approx(plain * 3 / 4)
    assert pairs_per_s(COST, DDP, peak=1200.0, utilisation=0.5, recompute=True) == pytest.approx(plain * 3 / 5)


def test_the_first_part_that_is_too_large_is_named() -> None:
    parts = memory_parts(COST, DDP)
    used = 0
    for part, size in parts.items():
        if size:
            assert first_too_large(COST, DDP, int((used + size - 1) / USABLE)) == part
        used += size
    assert first_too_large(COST, DDP, int(used / USABLE) + 1) is None


@given(
    memory=st.integers(1, 100_000),
    ranks=st.integers(1, 9),
    batch=st.integers(1, 500),
    kind=st.sampled_from(["ddp", "fsdp2"]),
)
def test_the_largest_micro_batch_fits_and_one_more_does_not(memory: int, ranks: int, batch: int, kind: str) -> None:
    layout = Layout(batch=batch, ranks=ranks, parallel=kind, micro_batch=1)
    largest = largest_micro_batch(COST, layout, memory)
    if largest == 0:
        assert first_too_large(COST, layout, memory) is not None or layout.local == 1
    else:
        assert first_too_large(COST, replace(layout, micro_batch=largest), memory) is None
    if 0 < largest < layout.local:
        assert first_too_large(COST, replace(layout, micro_batch=largest + 1), memory) is not None


@given(memory=st.integers(20_000, 100_000), ranks=st.integers(1, 9), micro_batch=st.sampled_from([0, 8]))
def test_the_largest_batch_fits_and_a_row_more_of_each_rank_does_not(memory: int, ranks: int, micro_batch: int) -> None:
    layout = replace(DDP, ranks=ranks, micro_batch=micro_batch)
    largest = largest_batch(COST, layout, memory)
    if largest:
        asked = replace(layout, batch=largest, micro_batch=micro_batch or largest // ranks)
        assert first_too_large(COST, asked, memory) is None
    more = replace(layout, batch=largest + ranks, micro_batch=micro_batch or largest // ranks + 1)
    assert first_too_large(COST, more, memory) is not None
