"""Recipes: complete, named, and with the paper's numbers."""

from __future__ import annotations

import json

import pytest

from diptych.clip import recipes
from diptych.errors import UsageError
from diptych.overrides import from_plain, to_plain
from diptych.train.run import Run


@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_name_is_a_recipe_that_says_what_it_reaches(name):
    run = recipes.named(name)
    assert run.recipe == name and run.system == "clip"
    assert getattr(recipes, name).__doc__ is not None
    model = from_plain(type(run.model), json.loads(json.dumps(to_plain(run.model))))
    assert model == run.model


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'vit_b_32'"):
        recipes.named("vit_b32")


LAION = ("vit_h_14", "vit_g_14", "vit_big_g_14")
FIGURE2 = ("figure2_captioning", "figure2_bag_of_words", "figure2_cbow", "figure2_transformer")
PAPER = [name for name in recipes.NAMES if name not in ("tiny", "demo", "demo_sigmoid", "flickr8k", *FIGURE2, *LAION)]


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_common_settings(name):
    run: Run = recipes.named(name)
    assert (run.training.batch, run.optim.weight_decay, run.optim.warmup_steps) == (32_768, 0.2, 2000)
    assert run.optim.schedule == "cosine" and run.model.temperature == 0.07 and run.model.max_scale == 100
    assert run.inputs.transform == "square_crop" and run.inputs.tokenizer == "clip"
    assert run.training.epochs == (1 if name == "vit_l_14_336" else 32)
    vit = run.model.image == "vit"
    assert (run.optim.betas, run.optim.eps) == (((0.9, 0.98), 1e-6) if vit else ((0.9, 0.999), 1e-8))
    assert run.model.activation == "quick_gelu" and run.model.context == 77 and run.model.vocab_size == 49_408


def test_siglip_begins_with_a_scale_of_10_and_a_bias_of_minus_10():
    run = recipes.demo_sigmoid()
    assert (1 / run.model.temperature, run.objective.bias) == (pytest.approx(10), -10)
    assert run.model.max_scale > 1000


def test_the_papers_learning_rates():
    rates = {name: recipes.named(name).optim.lr for name in PAPER}
    assert rates == {
        "rn50": 5e-4, "rn101": 5e-4, "rn50x4": 5e-4, "rn50x16": 4e-4, "rn50x64": 3.6e-4,
        "vit_b_32": 5e-4, "vit_b_16": 5e-4, "vit_l_14": 4e-4, "vit_l_14_336": 2e-5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "head_width", "mlp_width", "samples"),
    [("vit_h_14", 80, 5120, 34.7e9), ("vit_g_14", 88, 6144, 12.2e9), ("vit_big_g_14", 104, 8192, 39e9)],
)
def test_what_is_published_of_laions_largest(name, head_width, mlp_width, samples):
    run = recipes.named(name)
    assert run.model.image_width / run.model.image_heads == head_width
    assert int(run.model.image_width * run.model.image_mlp_ratio) == mlp_width
    assert run.model.activation == "gelu" and run.model.text_width / run.model.text_heads == 64
    assert run.training.epochs is None and run.inputs.transform == "random_resized_crop"
    assert run.training.steps * run.training.batch == pytest.approx(samples, rel=5e-3)
