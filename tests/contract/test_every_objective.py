"""What every objective owes the loop, at its defaults and with each switch thrown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from diptych import systems
from diptych.data.batch import Batch, Targets, rows_of_targets, stack_targets
from diptych.data.sample import Item, ItemRegions, KnownObjects, random_for
from diptych.objectives.mixture import Mixture
from diptych.objectives.objective import Dual, Loss, Objective
from diptych.systems.rooms import objective_class
from diptych.train.job import Job
from diptych.train.run import Run, plain_run

B = 6


def tasks_of(mixture: Any) -> Iterator[Any]:
    """The mixture with the share of one task alone, as it is and with each of that task's switches thrown."""
    for name in (field.name for field in dataclasses.fields(mixture.share)):
        nothing = dict.fromkeys((field.name for field in dataclasses.fields(mixture.share)), 0.0)
        alone = replace(mixture, share=replace(mixture.share, **nothing | {name: 1.0}))
        yield pytest.param(alone, id=f"{mixture.name}-{name}")
        task = getattr(mixture, name)
        for field in dataclasses.fields(task):
            if isinstance(getattr(task, field.name), bool):
                thrown = replace(task, **{field.name: not getattr(task, field.name)})
                yield pytest.param(replace(alone, **{name: thrown}), id=f"{mixture.name}-{name}-{field.name}")


def forms() -> Iterator[Any]:
    """Every objective at its defaults, and once for each of its switches, thrown; of a mixture each task alone."""
    for name in systems.OBJECTIVES:
        objective: Any = objective_class(name)()
        if isinstance(objective, Mixture):
            yield from tasks_of(objective)
            continue
        yield pytest.param(objective, id=name)
        for field in dataclasses.fields(objective):
            if isinstance(getattr(objective, field.name), bool):
                thrown = replace(objective, **{field.name: not getattr(objective, field.name)})
                yield pytest.param(thrown, id=f"{name}-{field.name}")


pytestmark = pytest.mark.parametrize("objective", list(forms()))


def tiny_for(objective: Objective) -> Run:
    """The smallest run of the first system that has a recipe with an objective of that name, with this in its place."""
    for system in systems.NAMES:
        runs = (systems.recipe(system, name) for name in systems.recipes(system))
        of_it = [run.recipe for run in runs if run.objective.name == objective.name]
        if of_it:
            smallest = next((name for name in of_it if "tiny" in name), "tiny")
            return replace(systems.recipe(system, smallest), objective=objective)
    pytest.fail(f"no system has a recipe with {objective.name}")


@pytest.fixture
def job(objective: Objective, build: Callable[[Run], Job]) -> Job:
    return build(tiny_for(objective))


@pytest.fixture
def rows(job: Job, items: Callable[[Job, int], list[Item]]) -> list[tuple[Item, Targets]]:
    """Items as drawn, of which the first and the fourth show the same thing."""
    found = items(job, B)
    found[3] = replace(found[3], group=found[0].group)
    return [drawn(job.objective, place, found) for place in range(B)]


def drawn(objective: Any, place: int, items: list[Item]) -> tuple[Item, Targets]:
    objective = objective.at(None, 0) if isinstance(objective, Mixture) else objective
    others = [*items[place + 1 :], *items[:place]]
    partners = objective.partners(0, 0, place, len(others))
    assert all(0 <= one < len(others) for one in partners)
    rng = random_for(0, 0, items[place].key, objective.name)
    return objective.draw(items[place], [others[one] for one in partners], rng)


def batched(job: Job, rows: list[tuple[Item, Targets]]) -> tuple[Batch, Targets]:
    return job.inputs.collate([item for item, _ in rows]), stack_targets([targets for _, targets in rows])


def loss_of(job: Job, rows: list[tuple[Item, Targets]]) -> Loss:
    batch, targets = batched(job, rows)
    with torch.inference_mode():
        return job.objective.loss(job.model, batch, targets)  # type: ignore[arg-type]


class Gathered:
    """An `encode` that gives rows of one encoding, with all of it beside them, as the loop does over ranks."""

    def __init__(self, job: Job, whole: Dual, start: int) -> None:
        self.heads, self._whole, self._start = job.model.heads, whole, start

    def __call__(self, batch: Batch) -> Dual:
        part, whole = slice(self._start, self._start + len(batch)), self._whole
        mine = replace(whole, image=whole.image[part], text=whole.text[part], group=whole.group[part])
        return replace(mine, all_image=whole.image, all_text=whole.text, all_group=whole.group, offset=self._start)


def test_counts_are_known_before_the_forward_pass(job: Job, rows: list[tuple[Item, Targets]]) -> None:
    loss = loss_of(job, rows)
    assert job.objective.counts(*batched(job, rows)) == {name: term.count for name, term in loss.terms.items()}
    assert all(torch.isfinite(term.total) and term.total.dtype == torch.float32 for term in loss.terms.values())


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_losses_of_the_parts_add_up(job: Job, rows: list[tuple[Item, Targets]], size: int) -> None:
    """Over micro-batches; where rows see each other, over ranks that gathered what they compare with."""
    whole, (batch, targets) = loss_of(job, rows), batched(job, rows)
    added = Loss()
    with torch.inference_mode():
        encoding: Any = job.model(batch)
        for start in range(0, B, size):
            part = batch.rows(start, start + size), rows_of_targets(targets, start, start + size)
            encode: Any = Gathered(job, encoding, start) if job.objective.couples_rows else job.model
            added = added + job.objective.loss(encode, *part)
    counts = job.objective.counts(batch, targets)
    assert {name: term.count for name, term in added.terms.items()} == counts
    assert_close(added.divided(counts), whole.divided(counts), atol=1e-5, rtol=1e-5)


def test_the_order_of_rows_is_nothing_to_it(job: Job, rows: list[tuple[Item, Targets]]) -> None:
    moved = [rows[place] for place in (4, 0, 5, 2, 1, 3)]
    assert_close(loss_of(job, moved).total(), loss_of(job, rows).total(), atol=1e-4, rtol=1e-5)


def test_a_draw_is_a_function_of_its_generator_and_changes_no_item(
    job: Job, items: Callable[[Job, int], list[Item]]
) -> None:
    given, untouched = items(job, B), items(job, B)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for place in range(B):
        (first, targets), (again, same_targets) = (drawn(job.objective, place, given) for _ in range(2))
        equal(vars(first), vars(again))
        equal(targets, same_targets)
        equal(vars(given[place]), vars(untouched[place]))
    assert torch.equal(before, torch.get_rng_state())


def test_among_one_row_there_is_nothing_to_guess_and_among_more_it_is_harder(objective: Objective) -> None:
    chance = [objective.chance_loss(num) for num in (1, 2, 7, 300)]
    assert all(one is None for one in chance) or (chance[0] == 0 and chance == sorted(chance))


def test_its_name_finds_it_and_json_keeps_its_settings(objective: Objective) -> None:
    assert type(objective) is objective_class(objective.name)
    run = tiny_for(objective)
    assert systems.run_from_plain(json.loads(json.dumps(plain_run(run)))).objective == objective


def test_heads_belong_to_the_model(job: Job) -> None:
    heads = job.objective.heads(job.run.model)
    assert heads.keys() == job.model.heads.keys()  # type: ignore[operator,union-attr]
    assert all(isinstance(head, nn.Module) for head in heads.values())


def equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, KnownObjects | ItemRegions):
            equal(vars(value), vars(other[name]))
        elif name == "sequences":
            for mine, its in zip(value, other[name], strict=True):
                equal(vars(mine), vars(its))
        else:
            assert torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name], name
