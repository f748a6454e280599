"""The micro-batch that fits: the choice by hand, what measuring leaves alone, and that a run keeps what it found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.data.batch import Batch, ImagePart, Targets, TextPart
from diptych.data.table import Table
from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.train import micro_batch as module
from diptych.train.budget import Layout
from diptych.train.device import Precision
from diptych.train.fit import fit
from diptych.train.learner import Learner
from diptych.train.micro_batch import fitting_micro_batch, largest_fitting

CPU = torch.device("cpu")


def measured(taken: Callable[[int], float], **limits: float) -> tuple[int, list[int]]:
    """The micro-batch, and the sizes of the passes that found it."""
    sizes: list[int] = []

    def bytes_of_pass(size: int) -> float:
        sizes.append(size)
        return taken(size)

    found = largest_fitting(bytes_of_pass, **{"enough": math.inf, **limits})  # type: ignore[arg-type]
    return found.rows, sizes


def test_a_small_batch_is_found_to_fit_by_one_pass() -> None:
    assert measured(lambda size: 10.0 * size, rows=256, room=2560) == (256, [2])


def test_a_batch_that_does_not_fit_is_split_by_a_power_of_two() -> None:
    """A row takes 10 of 1,000 and 100 would fit; the pass over 16 is the first that takes an eighth."""
    assert measured(lambda size: 10.0 * size, rows=256, room=1000) == (64, [2, 4, 8, 16])


def test_passes_grow_until_what_does_not_grow_with_rows_hardly_counts() -> None:
    """100 bytes are there for any batch: two rows seem to take 60 each, and 32 tell that all 200 fit."""
    assert measured(lambda size: 100 + 10.0 * size, rows=200, room=3000) == (200, [2, 4, 8, 16, 32])


def test_of_much_room_only_enough_is_taken_unless_all_fits() -> None:
    assert measured(lambda size: 10.0 * size, rows=2000, room=10_000, enough=1000)[0] == 64
    assert measured(lambda size: 10.0 * size, rows=1000, room=10_000, enough=1000)[0] == 1000


def test_memory_that_runs_out_bounds_the_micro_batch() -> None:
    assert measured(lambda size: 10.0 * size if size <= 8 else math.inf, rows=256, room=2000) == (8, [2, 4, 8, 16])


def test_memory_that_runs_out_in_the_smallest_pass_leaves_one_row() -> None:
    assert measured(lambda size: math.inf, rows=256, room=2000) == (1, [2])


def test_at_the_least_one_row_goes_through_at_once() -> None:
    assert measured(lambda size: 10.0 * size, rows=256, room=-5) == (1, [2])


@given(
    lines=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 40)), min_size=1, max_size=4),
    rows=st.integers(2, 3000),
    room=st.integers(1, 50_000),
)
def test_what_is_chosen_fits(lines: list[tuple[int, int]], rows: int, room: int) -> None:
    """Of a peak that is the largest of several lines, as a pass has them."""

    def taken(size: int) -> float:
        return max(constant + slope * size for constant, slope in lines)

    chosen, sizes = measured(taken, rows=rows, room=room)
    assert chosen <= rows and max(sizes) <= rows
    assert chosen == 1 or taken(chosen) <= room
    assert chosen == rows or math.log2(chosen).is_integer()


def some_rows(num: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        keys=tuple(map(str, range(num))),
        group=torch.arange(num),
        text=TextPart(ids=torch.randint(97, 122, (num, 5), generator=generator), mask=torch.ones(num, 5).bool()),
        image=ImagePart(pixels=torch.randint(0, 256, (num, 3, 4, 4), generator=generator, dtype=torch.uint8)),
    )


def test_measuring_leaves_everything_as_it_was(small_room: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    job = small_room.small_job(settings=["model.batch_norm=true", "model.dropout=0.3"])
    learner = Learner(job, steps=3, device=CPU, precision=Precision("float32", "as set"))
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    monkeypatch.setattr(module, "free_bytes", lambda device: 60_000)
    layout = Layout(batch=40, ranks=1, parallel="ddp", micro_batch=40)
    found = fitting_micro_batch(learner, some_rows(40), {}, layout)
    assert 1 <= found.rows < 40
    assert_close(dict(learner.model.state_dict()), before, rtol=0, atol=0)
    assert all(one.grad is None for one in learner.model.parameters())
    assert not learner.optimizer.state and learner.model.training


def test_all_processes_go_by_the_one_with_the_least_room(small_room: ModuleType) -> None:
    """`agreed` is the largest of all; the other process has 40 rows and no room, and calls with minus both."""
    learner = Learner(small_room.small_job(), steps=3, device=CPU, precision=Precision("float32", "as set"))
    layout = Layout(batch=40, ranks=1, parallel="ddp", micro_batch=40)
    assert fitting_micro_batch(learner, some_rows(40), {}, layout).rows == 40
    other = iter([-40.0, 0.0])
    found = fitting_micro_batch(learner, some_rows(40), {}, layout, agreed=lambda mine: max(mine, next(other, 0.0)))
    assert found.rows == 1


def test_a_row_that_cannot_be_read_does_not_split_later_batches(small_room: ModuleType) -> None:
    learner = Learner(small_room.small_job(), steps=3, device=CPU, precision=Precision("float32", "as set"))
    layout = Layout(batch=40, ranks=1, parallel="ddp", micro_batch=40)
    assert fitting_micro_batch(learner, some_rows(39), {}, layout).rows == 40
    assert fitting_micro_batch(learner, some_rows(1), {}, layout).rows == 40


def test_an_error_that_ends_the_search_is_told_with_the_rows_of_its_pass(
    small_room: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where several processes wait for each other, and none can go on alone."""
    learner = Learner(small_room.small_job(), steps=3, device=CPU, precision=Precision("float32", "as set"))
    told: list[int] = []

    @contextmanager
    def explained(rows: int) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            told.append(rows)
            raise

    def bytes_of_pass(learner: Learner, batch: Batch, targets: Targets, size: int) -> float:
        if size == 4:
            raise MemoryError
        return 1.0

    monkeypatch.setattr(module, "_bytes_of_pass", bytes_of_pass)
    monkeypatch.setattr(module, "free_bytes", lambda device: 60_000)
    monkeypatch.setattr(module, "_bytes_beside", lambda *_: 60_000 * module.CPU_SHARE - 10)  # room for 10 bytes
    with pytest.raises(MemoryError):
        fitting_micro_batch(
            learner,
            some_rows(40),
            {},
            Layout(batch=40, ranks=1, parallel="ddp", micro_batch=40),
            explained=explained,
        )
    assert told == [4]


def test_an_error_that_is_no_lack_of_memory_is_told(small_room: ModuleType) -> None:
    learner = Learner(small_room.small_job(), steps=3, device=CPU, precision=Precision("float32", "as set"))
    broken = replace(some_rows(4), image=ImagePart(pixels=torch.zeros(4, 3, 9, 9, dtype=torch.uint8)))
    with pytest.raises(RuntimeError, match="shapes"):
        fitting_micro_batch(learner, broken, {}, Layout(batch=4, ranks=1, parallel="ddp", micro_batch=4))


def test_a_run_fixes_what_it_found_and_keeps_it(
    small_room: ModuleType, small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, job = tmp_path / "run", small_room.small_job
    monkeypatch.setattr(module, "free_bytes", lambda device: 0)
    fit(job(settings=["training.steps=3", "training.batch=9"]), small_table, out, device="cpu")
    assert json.loads((out / "run.json").read_text())["training"]["micro_batch"] == 1
    told = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any("1 of 9 rows go through the model at once" in line.get("text", "") for line in told)
    monkeypatch.undo()  # there is room now, and still the run goes on as it began
    fit(job(settings=["training.steps=3", "training.batch=9"]), small_table, out, device="cpu", resume=True)
    assert json.loads((out / "run.json").read_text())["training"]["micro_batch"] == 1
    smaller = job(settings=["training.steps=3", "training.batch=9", "training.micro_batch=4"])
    fit(smaller, small_table, out, device="cpu", resume=True)
    assert json.loads((out / "run.json").read_text())["training"]["micro_batch"] == 4


def test_what_the_whole_batch_fits_in_is_fixed_too(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    fit(small_room.small_job(settings=["training.steps=1"]), small_table, tmp_path, device="cpu")
    assert json.loads((tmp_path / "run.json").read_text())["training"]["micro_batch"] == 5


def test_the_setting_takes_auto_none_and_numbers(small_room: ModuleType) -> None:
    run = small_room.small_run()
    assert run.training.micro_batch == "auto" and run.training.rows_at_once is None
    assert apply_overrides(run, ["training.micro_batch=none"]).training.rows_at_once is None
    assert apply_overrides(run, ["training.micro_batch=12"]).training.rows_at_once == 12
    with pytest.raises(UsageError, match="expected a whole number or auto or none"):
        apply_overrides(run, ["training.micro_batch=some"])
