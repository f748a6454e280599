"""Recipes: complete, named, and with the paper's numbers."""

from __future__ import annotations

import pytest

from diptych.errors import UsageError
from diptych.uniter import recipes, task_recipes
from diptych.uniter.model import UniterConfig

PAPER = ("base_indomain", "base", "large")


@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_name_is_a_recipe_that_says_what_it_is(name):
    run = recipes.named(name)
    assert (run.system, run.recipe) == ("uniter", name)
    assert getattr(recipes, name).__doc__ is not None


def test_tasks_have_recipes_of_the_released_numbers():
    def numbers(name):
        run = task_recipes.named(name)
        optim, training = run.optim, run.training
        assert (run.system, run.recipe, optim.arithmetic) == ("uniter", name, "released")
        assert optim.clip_norm == (None if name.startswith("vcr_pre") else 2.0)
        size = training.batch if training.batch_tokens is None else training.batch_tokens
        return run.objective.name, optim.lr, optim.head_lr, size, training.steps, optim.warmup_steps, run.model.width

    found = {name: numbers(name) for name in task_recipes.NAMES if name not in recipes.NAMES and "tiny" not in name}
    assert found == {
        "vqa": ("vqa", 8e-5, 10, 102_400, 6_000, 600, 768),
        "vqa_large": ("vqa", 5e-5, 10, 98_304, 5_000, 500, 1024),
        "ve": ("ve", 8e-5, 1, 32_768, 4_000, 400, 768),
        "ve_large": ("ve", 3e-5, 1, 32_768, 4_000, 400, 1024),
        "vcr": ("vcr", 6e-5, 1, 80_000, 8_000, 800, 768),
        "vcr_large": ("vcr", 6e-5, 1, 80_000, 8_000, 800, 1024),
        "vcr_pretraining": ("pretraining", 3e-5, 1, 393_216, 45_000, 4_500, 768),
        "vcr_pretraining_large": ("pretraining", 3e-5, 1, 393_216, 45_000, 4_500, 1024),
        "nlvr2": ("nlvr2", 3e-5, 1, 10_240, 8_000, 800, 768),
        "nlvr2_large": ("nlvr2", 2e-5, 1, 20_480, 5_000, 500, 1024),
        "refcoco": ("re", 1e-4, 1, 128, 24_000, 1_500, 768),
        "refcoco_plus": ("re", 6e-5, 1, 128, 10_000, 1_000, 768),
        "flickr_ranking": ("ranking", 5e-5, 1, 1_280, 20_000, 2_000, 768),
        "hard_ranking": ("hard_ranking", 5e-5, 1, 128, 5_000, 500, 768),
        "flickr_hard_ranking_large": ("hard_ranking", 5e-5, 1, 128, 5_000, 500, 1024),
        "coco_hard_ranking_large": ("hard_ranking", 3e-5, 1, 128, 5_000, 500, 1024),
    }
    assert task_recipes.named("refcoco_plus").objective.layers == 2


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'base_indomain'"):
        task_recipes.named("base_indomian")


@pytest.mark.parametrize("name", PAPER)
def test_what_the_papers_runs_have_in_common(name):
    run = recipes.named(name)
    optim = run.optim
    assert (optim.lr, optim.betas, optim.eps, optim.weight_decay) == (5e-5, (0.9, 0.98), 1e-6, 0.01)
    assert (optim.warmup_steps, optim.schedule, optim.clip_norm, optim.arithmetic) == (
        10_000,
        "linear",
        5.0,
        "released",
    )
    assert (run.model.dropout, run.model.attention_dropout, run.training.seed) == (0.1, 0.1, 42)
    assert run.inputs.tokenizer == "bert-base-cased"
    objective = run.objective
    assert objective.mlm.probability == objective.mrfr.probability == objective.mrc.probability == 0.15
    assert objective.mrc.divergence and objective.mrc.mean_over_classes
    assert (objective.itm.negatives, objective.itm.alignment, objective.itm.push_apart) == (0.5, 0.1, True)


def test_sizes_steps_and_mixtures():
    runs = {name: recipes.named(name) for name in PAPER}
    steps = {name: (run.training.steps, run.training.batch_tokens) for name, run in runs.items()}
    assert steps == {
        "base_indomain": (200_000, 10_240 * 2 * 8),
        "base": (200_000, 10_240 * 6 * 8),
        "large": (500_000, 6_144 * 4 * 16),
    }
    shares = {name: tuple(vars(run.objective.share).values()) for name, run in runs.items()}
    assert shares == {"base_indomain": (2, 1, 1, 2), "base": (4, 2, 2, 3), "large": (4, 2, 2, 3)}
    assert runs["base_indomain"].model == runs["base"].model == UniterConfig()
    large = runs["large"].model
    assert (large.width, large.depth, large.heads, large.mlp_width) == (1024, 24, 16, 4096)


def test_the_tiny_one_is_corrected():
    run = recipes.tiny()
    assert run.optim.arithmetic == "corrected"
    assert not run.objective.mrc.mean_over_classes and not run.objective.itm.push_apart
