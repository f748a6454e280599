"""Config files of the release's form, written by hand with its numbers: they become our own recipes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diptych import systems
from diptych.errors import UsageError

COMMON: dict[str, Any] = {
    "checkpoint": "/some/uniter.pt",
    "output_dir": "/some/where",
    "max_txt_len": 60,
    "conf_th": 0.2,
    "max_bb": 100,
    "min_bb": 10,
    "num_bb": 36,
    "valid_steps": 500,
    "optim": "adamw",
    "betas": [0.9, 0.98],
    "dropout": 0.1,
    "weight_decay": 0.01,
    "grad_norm": 2.0,
    "seed": 42,
    "fp16": True,
    "n_workers": 4,
    "pin_mem": True,
}
MIXED = {"tasks": ["itm", "mlm", "mrfr", "mrckl"], "db": ["/txt/a.db"], "img": ["/img/a"]}
FOUR = [
    {"name": name, **MIXED, "mix_ratio": mix}
    for name, mix in (("coco", (6, 8, 4, 4)), ("vg", (9, 12, 6, 6)), ("cc", (9, 12, 6, 6)), ("sbu", (6, 8, 4, 4)))
]
PRETRAINING = {"mrm_prob": 0.15, "itm_neg_prob": 0.5, "itm_ot_lambda": 0.1, "grad_norm": 5.0, "valid_steps": 5000}
RE = {"conf_th": -1, "num_bb": 100, "mlp": 1, "lr_mul": 1.0, "decay": "linear"}


def numbers(batch: int, accumulation: int | None, lr: float, steps: int, warmup: int) -> dict[str, Any]:
    found = {"train_batch_size": batch, "learning_rate": lr, "num_train_steps": steps, "warmup_steps": warmup}
    return found if accumulation is None else {**found, "gradient_accumulation_steps": accumulation}


FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "base_indomain": (
        "8gpu",
        "base",
        {
            **PRETRAINING,
            **numbers(10_240, 2, 5e-5, 200_000, 10_000),
            "train_datasets": [{"name": name, **MIXED, "mix_ratio": [2, 2, 1, 1]} for name in ("coco", "vg")],
            "val_datasets": [],
        },
    ),
    "base": ("8gpu", "base", {**PRETRAINING, **numbers(10_240, 6, 5e-5, 200_000, 10_000), "train_datasets": FOUR}),
    "large": ("16gpu", "large", {**PRETRAINING, **numbers(6_144, 4, 5e-5, 500_000, 10_000), "train_datasets": FOUR}),
    "vqa": (
        "4gpu",
        "base",
        {"train_txt_dbs": ["/t/vqa_train.db"], "lr_mul": 10.0, **numbers(5_120, 5, 8e-5, 6_000, 600)},
    ),
    "vqa_large": (
        "8gpu",
        "large",
        {"train_txt_dbs": ["/t/vqa_train.db/"], "lr_mul": 10.0, **numbers(3_072, 4, 5e-5, 5_000, 500)},
    ),
    "ve": ("2gpu", "base", {"train_txt_db": "/t/ve_train.db/", **numbers(4_096, 4, 8e-5, 4_000, 400)}),
    "ve_large": ("4gpu", "large", {"train_txt_db": "/t/ve_train.db/", **numbers(4_096, 2, 3e-5, 4_000, 400)}),
    "vcr": (
        "4gpu",
        "base",
        {
            "train_txt_dbs": ["/t/vcr_train.db/"],
            "checkpoint_from": "vcr_pretrain",
            "max_txt_len": 220,
            "lr_mul": 1.0,
            **numbers(4_000, 5, 6e-5, 8_000, 800),
        },
    ),
    "vcr_pretraining_large": (
        "4gpu",
        "large",
        {
            **numbers(6_144, 4, 3e-5, 45_000, 4_500),
            "mrm_prob": 0.15,
            "max_txt_len": 220,
            "grad_norm": -1,
            "train_datasets": [
                {"name": "vcr", "tasks": ["mlm", "mrfr", "mrckl"], "img": ["/gt/;/det/"], "mix_ratio": [10, 1, 1]}
            ],
        },
    ),
    "nlvr2": ("1gpu", "base", {"model": "paired-attn", "use_img_type": True, **numbers(10_240, 1, 3e-5, 8_000, 800)}),
    "nlvr2_large": (
        "2gpu",
        "large",
        {"model": "paired-attn", "use_img_type": True, **numbers(5_120, 2, 2e-5, 5_000, 500)},
    ),
    "refcoco": ("1gpu", "base", {**RE, **numbers(128, 1, 1e-4, 24_000, 1_500)}),
    "refcoco_plus": ("1gpu", "base", {**RE, "mlp": 2, **numbers(128, 1, 6e-5, 10_000, 1_000)}),
    "flickr_ranking": ("8gpu", "base", {"margin": 0.2, "negative_size": 1, **numbers(40, 4, 5e-5, 20_000, 2_000)}),
    "coco_hard_ranking_large": (
        "16gpu-hn",
        "large",
        {"margin": 0.2, "negative_size": 399, "hard_neg_size": 31, **numbers(8, None, 3e-5, 5_000, 500)},
    ),
}


def put(folder: Path, name: str, size: str = "base", **fields: Any) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**COMMON, "model_config": f"/src/config/uniter-{size}.json", **fields}))
    return file


@pytest.mark.parametrize("recipe", FILES)
def test_a_released_file_is_our_recipe(recipe: str, tmp_path: Path) -> None:
    gpus, size, fields = FILES[recipe]
    found = systems.import_config(put(tmp_path, f"train-something-{gpus}", size, **fields))
    assert found.run == replace(systems.recipe("uniter", recipe), recipe=f"train-something-{gpus}")
    assert found.unknown == () and found.by_recipe == {}
    assert {*found.taken, *found.left_out} == {*COMMON, *fields, "model_config"}
    assert found.begins_with == ("BERT" if recipe in ("base_indomain", "base", "large") else "UNITER")


def test_what_differs_from_the_recipe_is_taken_over(tmp_path: Path) -> None:
    vqa = numbers(100, 3, 1e-3, 70, 7)
    file = put(
        tmp_path, "mine", **vqa, dropout=0.2, grad_norm=-1, max_txt_len=20, seed=3, max_bb=50, valid_steps=5, lr_mul=2
    )
    run = systems.import_config(file, gpus=2, task="vqa").run
    assert (run.optim.lr, run.optim.clip_norm, run.optim.head_lr) == (1e-3, None, 2.0)
    assert (run.training.batch_tokens, run.training.steps, run.training.seed, run.training.eval_every) == (
        600,
        70,
        3,
        5,
    )
    assert (run.model.dropout, run.model.attention_dropout, run.model.context, run.model.max_regions) == (
        0.2,
        0.2,
        22,
        50,
    )


def test_a_batch_of_phrases_is_summed(tmp_path: Path) -> None:
    run = systems.import_config(put(tmp_path, "re-2gpu", **RE, **numbers(16, 3, 1e-4, 9, 1))).run
    assert (run.training.batch, run.objective.weight) == (16 * 3 * 2, 16)


def test_fields_are_named(tmp_path: Path) -> None:
    file = put(tmp_path, "ve-1gpu", train_txt_db="/t/ve_train.db", wings=2, **numbers(9, 1, 1e-4, 9, 1))
    plain = json.loads(file.read_text())
    del plain["seed"], plain["optim"]
    file.write_text(json.dumps(plain))
    found = systems.import_config(file)
    assert found.unknown == ("wings",)
    assert found.by_recipe == {"seed": "training.seed=42", "optim": "optim.arithmetic=released"}
    assert found.left_out["train_txt_db"] == "a path there; --data and --regions name yours"
    assert found.taken["train_batch_size"] == "training.batch_tokens=9"


def test_sizes_of_a_network_of_ones_own_lie_beside(tmp_path: Path) -> None:
    file = put(tmp_path, "ve-1gpu", "tiny", train_txt_db="/t/ve_train.db", **numbers(9, 1, 1e-4, 9, 1))
    with pytest.raises(UsageError, match=r"names uniter-tiny\.json, which is not beside .*; put it there"):
        systems.import_config(file)
    (tmp_path / "uniter-tiny.json").write_text(json.dumps({"hidden_size": 24, "num_hidden_layers": 3}))
    model = systems.import_config(file).run.model
    assert (model.width, model.depth, model.heads) == (24, 3, 12)
    with pytest.raises(UsageError, match="holds the sizes of a network and no training"):
        systems.import_config(tmp_path / "uniter-tiny.json")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"optim": "adamax"}, "optim is 'adamax'; here it is adamw"),
        ({"train_datasets": [{"name": "coco"}]}, "train_datasets is of another form"),
        ({"train_datasets": [{**MIXED, "tasks": ["mrc", "mrckl"], "mix_ratio": [1, 1]}]}, "mixes mrc and mrckl"),
        ({"use_img_type": False}, "use_img_type is False; here it is True"),
        ({"learning_rate": "fast"}, "optim.lr is 'fast'; expected a number"),
        ({"train_batch_size": 0}, "train_batch_size is 0"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    task = {} if "train_datasets" in fields else {"train_txt_db": "ve_train.db"}
    with pytest.raises(UsageError, match=told):
        systems.import_config(put(tmp_path, "x-1gpu", **{**task, **numbers(9, 1, 1e-4, 9, 1), **fields}))


def test_what_the_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"say it: --task pretraining\|vcr_pretraining\|vqa"):
        systems.import_config(put(tmp_path, "x-1gpu"))
    with pytest.raises(UsageError, match=r"lacks learning_rate, .*, gradient_accumulation_steps"):
        systems.import_config(put(tmp_path, "x-1gpu"), task="ve")
    with pytest.raises(UsageError, match="say it: --gpus N"):
        systems.import_config(put(tmp_path, "x", **numbers(9, 1, 1e-4, 9, 1)), task="ve")
    with pytest.raises(UsageError, match="did you mean 'vqa'"):
        systems.import_config(put(tmp_path, "x-1gpu"), task="vqaa")
