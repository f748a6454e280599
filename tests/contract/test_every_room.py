"""What every room owes the floors, by its `tiny` recipe."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.testing import assert_close

import diptych
from diptych import systems
from diptych.data.batch import stack_targets
from diptych.data.sample import Item, ItemRegions, KnownObjects, random_for
from diptych.data.table import Table
from diptych.data.tokenizers import load_tokenizer
from diptych.errors import WeightsError
from diptych.objectives.detection import Detected
from diptych.objectives.mixture import Mixture
from diptych.objectives.objective import Dual, Fused
from diptych.overrides import apply_overrides
from diptych.systems.models import new_model
from diptych.systems.rooms import room
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.run import plain_run

Build = Callable[..., Job]
Items = Callable[[Job, int], list[Item]]

pytestmark = pytest.mark.parametrize("system", systems.NAMES)


@pytest.fixture
def job(system: str, build: Build) -> Job:
    return build(systems.recipe(system, "tiny"))


def encoded(job: Job, items: list[Item], model: nn.Module | None = None) -> list[Tensor]:
    """What a model makes of the items, a row an item."""
    with torch.inference_mode():
        encoding: Any = (job.model if model is None else model)(job.inputs.collate(items))
    match encoding:
        case Dual():
            return [encoding.image, encoding.text]
        case Fused():
            return [encoding.pooled, encoding.text.sum(dim=1), encoding.regions.sum(dim=1)]
        case Detected():
            return [torch.stack(encoding.objectness)]
        case _:
            pytest.fail(f"say here which tensors of a {type(encoding).__name__} hold a row for each item")


def test_every_recipe_goes_through_json_and_back(system: str) -> None:
    assert "tiny" in systems.recipes(system)
    for name in systems.recipes(system):
        run = systems.recipe(system, name)
        assert (run.system, run.recipe) == (system, name)
        assert systems.run_from_plain(json.loads(json.dumps(plain_run(run)))) == run


def test_padding_never_changes_an_encoding(job: Job, items: Items) -> None:
    rows = items(job, 7)
    lengths = {len(row.text_ids) for row in rows if row.text_ids is not None}
    lengths |= {len(row.objects.boxes) for row in rows if row.objects is not None}
    assert len(lengths) > 1, "rows of one length are not padded"
    for place, row in enumerate(rows):
        for alone, together in zip(encoded(job, [row]), encoded(job, rows), strict=True):
            assert_close(alone[0], together[place], atol=1e-5, rtol=1e-4)


def test_rows_in_another_order_are_encoded_in_that_order(job: Job, items: Items) -> None:
    rows = items(job, 5)
    order = [3, 0, 4, 2, 1]
    for moved, kept in zip(encoded(job, [rows[place] for place in order]), encoded(job, rows), strict=True):
        assert_close(moved, kept[order], atol=1e-5, rtol=1e-4)


def test_an_item_is_a_function_of_seed_epoch_and_key(job: Job, items: Items, world: Table) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for row in range(3):
        sample = world.split("train").sample(row, job.inputs.columns)
        items(job, row)  # what was made before has no part in it
        first, again = (job.inputs.item(sample, random_for(4, 2, sample.key)) for _ in range(2))
        same(first, again)
        same(job.inputs.item(sample, None), job.inputs.item(sample, None))
    assert torch.equal(before, torch.get_rng_state())


def test_inputs_travel_to_workers(job: Job, world: Table) -> None:
    travelled = pickle.loads(pickle.dumps(job.inputs))
    sample = world.split("train").sample(2, job.inputs.columns)
    same(travelled.item(sample, random_for(1, 0, "a")), job.inputs.item(sample, random_for(1, 0, "a")))


def test_inputs_save_the_tokenizer_they_read_with(job: Job, tmp_path: Path) -> None:
    if not room(job.run.system).reads_text:
        job.inputs.save(tmp_path)
        assert not any(tmp_path.iterdir()), "a folder that nothing reads again"
        return
    job.inputs.save(tmp_path)
    tokenizer: Any = job.inputs.tokenizer  # type: ignore[attr-defined]
    text = "a red star to the left of a key"
    assert load_tokenizer(tmp_path / "tokenizer").encode(text, 20) == tokenizer.encode(text, 20)


def test_a_state_dict_goes_through_safetensors_and_back(job: Job, items: Items) -> None:
    other = new_model(job.run.system, job.run.model, job.objective, seed=9).eval()
    rows = items(job, 3)
    different = [torch.equal(*pair) for pair in zip(encoded(job, rows), encoded(job, rows, other), strict=True)]
    assert not any(different)
    other.load_state_dict(load(save(dict(job.model.state_dict()))))
    for mine, theirs in zip(encoded(job, rows), encoded(job, rows, other), strict=True):
        assert torch.equal(mine, theirs)


def test_every_parameter_learns(job: Job, items: Items) -> None:
    """A parameter without a gradient is one that a forgotten detach or an unused layer keeps as it was."""
    rows = items(job, 6)
    job.model.zero_grad(set_to_none=True)
    job.model.train()  # what an objective samples may differ
    for step in range(len(job.objective.shares) if isinstance(job.objective, Mixture) else 1):
        draw: Any = job.objective.at(None, step) if isinstance(job.objective, Mixture) else job.objective
        drawn = [draw.draw(row, (), random_for(0, 0, row.key)) for row in rows]
        targets = stack_targets([target for _, target in drawn])
        batch = job.inputs.collate([item for item, _ in drawn])
        job.objective.loss(job.model, batch, targets).total().backward()  # type: ignore[arg-type]
    job.model.eval()
    still = [name for name, one in job.model.named_parameters() if one.grad is None or not one.grad.any()]
    job.model.zero_grad(set_to_none=True)
    assert still == []


def test_what_was_trained_is_what_is_loaded(system: str, world: Table, tmp_path: Path) -> None:
    few = ["training.steps=1", "training.batch=4", "training.eval_rows=4", "inputs.workers=0"]
    run = apply_overrides(systems.recipe(system, "tiny"), few)
    rows = world.split("train")
    job = systems.build(run, texts=rows.texts(), rows=rows)
    fit(job, world, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "best").unlink()  # so that the last is taken
    sample = world.split("test").sample(0, job.inputs.columns)
    row = job.inputs.item(sample, None)
    if system == "detector":
        detector = systems.load_detector(tmp_path / "run", device="cpu")
        assert_close(encoded(job, [row], detector.model)[0], encoded(job, [row], job.model.eval())[0])
        with pytest.raises(WeightsError, match="is a detector"):
            diptych.load(tmp_path / "run", device="cpu")
        return
    loaded = diptych.load(tmp_path / "run", device="cpu")
    if isinstance(loaded, FusedMatcher):
        assert_close(encoded(job, [row], loaded.model)[0], encoded(job, [row], job.model.eval())[0])
        return
    image, text = encoded(job, [row], job.model.eval())
    assert_close(loaded.encode_image([sample], normalize=False), image)
    assert_close(loaded.encode_text([sample.texts[0]], normalize=False), text)


def same(one: Item | KnownObjects | ItemRegions, other: Item | KnownObjects | ItemRegions) -> None:
    """Equal in every field."""
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, KnownObjects | ItemRegions):
            same(value, theirs)
        else:
            assert torch.equal(value, theirs) if isinstance(value, Tensor) else value == theirs, name
