"""The JSON files of UNITER's training scripts, as runs: fields are taken over, of no use here, or unknown.

What is no setting of the file (arithmetic, tokenizer, how often something is logged) is as in our recipe of that task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import gcd
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.errors import UsageError, unknown
from diptych.overrides import apply_overrides, to_plain
from diptych.train.imported import ImportedRun
from diptych.uniter.model import UniterConfig
from diptych.uniter.recipes import large
from diptych.uniter.task_recipes import named

RECIPES = {
    "pretraining": "base",
    "vcr_pretraining": "vcr_pretraining",
    "vqa": "vqa",
    "ve": "ve",
    "nlvr2": "nlvr2",
    "vcr": "vcr",
    "re": "refcoco",
    "ranking": "flickr_ranking",
    "hard_ranking": "hard_ranking",
}
"""Task -> our recipe, which says what the file does not."""
SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "max_position_embeddings": "positions",
    "vocab_size": "vocab_size",
}
"""Of the file that `model_config` names."""
NETWORKS = {"uniter-base.json": UniterConfig(), "uniter-large.json": large().model}
"""Of which nobody needs the file."""
TOLD_BY = {
    "train_datasets": "pretraining",
    "hard_neg_size": "hard_ranking",
    "negative_size": "ranking",
    "use_img_type": "nlvr2",
    "checkpoint_from": "vcr",
    "decay": "re",
    "mlp": "re",
}
"""Fields that the files of one task alone have; the first that is there counts."""
BOTH_BOXES = ";"
"""Between the two databases of VCR's pictures, of given boxes and of detected ones."""
DATABASES = {"vqa": "vqa", "ve": "ve", "vcr": "vcr", "nlvr2": "nlvr2", "refcoco": "re"}
"""How the names of a task's databases begin."""
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("optim.lr",),
    "betas": ("optim.betas",),
    "weight_decay": ("optim.weight_decay",),
    "grad_norm": ("optim.clip_norm",),
    "warmup_steps": ("optim.warmup_steps",),
    "num_train_steps": ("training.steps",),
    "valid_steps": ("training.eval_every",),
    "seed": ("training.seed",),
    "dropout": ("model.dropout", "model.attention_dropout"),
    "max_txt_len": ("model.context",),
    "optim": ("optim.arithmetic",),
}
"""Field -> what it is here, of every task."""
OF_TASKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pretraining": {
        "mrm_prob": ("objective.mrfr.probability", "objective.mrc.probability"),
        "itm_neg_prob": ("objective.itm.negatives",),
        "itm_ot_lambda": ("objective.itm.alignment",),
    },
    "vcr_pretraining": {"mrm_prob": ("objective.mrfr.probability", "objective.mrc.probability")},
    "vqa": {"lr_mul": ("optim.head_lr",)},
    "vcr": {"lr_mul": ("optim.head_lr",)},
    "nlvr2": {"model": ("objective.form",), "use_img_type": ("model.types",)},
    "re": {"lr_mul": ("optim.head_lr",), "mlp": ("objective.layers",), "decay": ("optim.schedule",)},
    "ranking": {"margin": ("objective.margin",), "negative_size": ("objective.negatives",)},
    "hard_ranking": {
        "margin": ("objective.margin",),
        "negative_size": ("objective.candidates",),
        "hard_neg_size": ("objective.kept",),
    },
}
NEEDED = ("learning_rate", "num_train_steps", "warmup_steps", "train_batch_size")
ONLY = {"optim": ("adamw",), "decay": ("linear", "constant"), "use_img_type": (True,), "train_loss": ("cls",)}
"""Field -> the values of it that can be had."""
ACCUMULATION = "gradient_accumulation_steps"
OPTIONS = 4
"""Of VCR's rows, which are measured with all of them; the release's second stage measures them with the right one."""
IN_ROWS = ("re", "ranking", "hard_ranking")
"""Tasks whose batches are so many rows; those of others are so many words and regions."""

_PATH = "a path there; --data and --regions name yours"
LEFT_OUT = {
    **dict.fromkeys(("train_txt_db", "train_txt_dbs", "val_txt_db", "test_txt_db"), _PATH),
    **dict.fromkeys(("train_img_db", "train_img_dbs", "val_img_db", "test_img_db", "val_datasets"), _PATH),
    "compressed_db": "what a file of regions is, it says itself",
    "output_dir": "--out names yours",
    "checkpoint": "what is begun with stands on the command line",
    "checkpoint_from": "weights say themselves which they are",
    **dict.fromkeys(("val_batch_size", "inf_minibatch_size"), "changes no result"),
    "full_val": "training.eval_rows says how much is evaluated",
    "fp16": "training.precision is what is fastest, measured when the run begins",
    "n_workers": "inputs.workers is by the machine's cores",
    "pin_mem": "by the device",
    **dict.fromkeys(("conf_th", "min_bb"), "decided when regions are made: regions extract --preset uniter"),
    "rank": "of the process that wrote the file",
    "mask_dir": "no script of the release reads it",
}
"""Field that is of no use here -> why."""


def import_config(file: Path, gpus: int | None = None, task: str | None = None) -> ImportedRun:
    """The run that a config file of the release describes.

    Args:
        file: as in the release's `config/`, or the `hps.json` of a training there.
        gpus: how many the training was for, which the file does not say; None: as its name does ("-4gpu").
        task: of RECIPES; None: as its fields and databases tell.
    Raises:
        UsageError: it is no such file, lacks what a training needs, or asks for what is not there.
    """
    plain = _object(file)
    task = _task(plain, task, file)
    _check(plain, task, file)
    recipe = RECIPES[task]
    begun = named(recipe)
    gpus = _gpus(file, gpus)
    settings = _sizes(plain, file) | dict(_settings(plain, task, gpus))
    values = {name: value for found in settings.values() for name, value in found.items()}
    try:
        run = apply_overrides(
            replace(begun, recipe=file.stem), [f"{name}={json.dumps(value)}" for name, value in values.items()]
        )
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    taken = {field: _said(found) for field, found in settings.items()}
    left_out = {field: why for field, why in _left_out(plain, task).items() if field not in taken}
    return ImportedRun(
        run=run,
        taken={field: taken[field] for field in plain if field in taken},
        left_out=left_out,
        unknown=tuple(field for field in plain if field not in taken and field not in left_out),
        by_recipe=_by_recipe(plain, task, to_plain(begun)),
        recipe=recipe,
        begins_with="BERT" if task == "pretraining" else "UNITER",
        gpus=gpus,
    )


def _object(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no {file}; expected a training's config of UNITER's release") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds {type(found).__name__}; expected an object with the settings of a training")
    return found


def _task(plain: Mapping[str, Any], asked: str | None, file: Path) -> str:
    if asked is not None:
        if asked not in RECIPES:
            raise UsageError(unknown("task", asked, RECIPES))
        return asked
    told = next((task for field, task in TOLD_BY.items() if field in plain), None) or _task_of_databases(plain)
    if told == "pretraining" and BOTH_BOXES in json.dumps(plain["train_datasets"]):
        return "vcr_pretraining"
    if told is not None:
        return told
    if "hidden_size" in plain:
        raise UsageError(
            f"{file} holds the sizes of a network and no training; expected a training's config, such as "
            "train-vqa-base-4gpu.json, which names this file, beside it"
        )
    raise UsageError(f"{file} does not tell what it trains for; say it: --task {'|'.join(RECIPES)}")


def _task_of_databases(plain: Mapping[str, Any]) -> str | None:
    for field in ("train_txt_db", "train_txt_dbs"):
        paths = plain.get(field, ())
        for path in [paths] if isinstance(paths, str) else paths:
            name = PurePosixPath(str(path)).name
            for begin, task in DATABASES.items():
                if name.startswith(begin):
                    return task
    return None


def _check(plain: Mapping[str, Any], task: str, file: Path) -> None:
    """Refuses what would make another training than the file's."""
    needed = (*NEEDED, *(() if task == "hard_ranking" else (ACCUMULATION,)))
    missing = [field for field in needed if field not in plain]
    if missing:
        raise UsageError(f"{file} lacks {', '.join(missing)}, which a training for {task} cannot do without")
    for field, possible in ONLY.items():
        if plain.get(field, possible[0]) not in possible:
            raise UsageError(
                f"{file}: {field} is {plain[field]!r}; here it is {' or '.join(map(str, possible))}. Change it in the "
                "file, if that will do"
            )


def _gpus(file: Path, asked: int | None) -> int:
    told = re.search(r"-(\d+)gpu", file.stem)
    if asked is None and told is None:
        raise UsageError(
            f"{file} does not say for how many GPUs it is, and a step is that many of its batches; say it: --gpus N"
        )
    return int(told[1]) if asked is None and told is not None else asked or 1


def _settings(plain: Mapping[str, Any], task: str, gpus: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Field -> settings with their values."""
    for field, names in {**SETTINGS, **OF_TASKS.get(task, {})}.items():
        if field in plain:
            yield field, dict.fromkeys(names, _value(field, plain[field]))
    regions = "num_bb" if plain.get("conf_th") == -1 else "max_bb"
    if regions in plain:
        yield regions, {"model.max_regions": plain[regions]}
    yield from _step(plain, task, gpus)
    if "train_datasets" in plain:
        yield "train_datasets", _shares(plain["train_datasets"])


def _step(plain: Mapping[str, Any], task: str, gpus: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The batch of a step, over all GPUs and all that is accumulated."""
    size, times = plain["train_batch_size"], plain.get(ACCUMULATION, 1)
    if not all(isinstance(one, int) and one > 0 for one in (size, times)):
        raise UsageError(f"train_batch_size is {size!r}, {ACCUMULATION} {times!r}; expected whole numbers above 0")
    whole = size * times * gpus * (OPTIONS if task == "vcr_pretraining" else 1)
    step = {f"training.{'batch' if task in IN_ROWS else 'batch_tokens'}": whole}
    yield "train_batch_size", step | ({"objective.weight": size} if task == "re" else {})
    if ACCUMULATION in plain:
        yield ACCUMULATION, step


def _value(field: str, value: Any) -> Any:
    match field, value:
        case "grad_norm", -1:
            return None
        case "max_txt_len", int():
            return value + 2  # with start and end
        case "model", str():
            return value.replace("-", "_")
        case "use_img_type", _:
            return 3
        case "optim", _:
            return "released"
        case _:
            return value


def _shares(datasets: Any) -> Mapping[str, Any]:
    """Steps of each task, of all data sets together, in the smallest whole numbers."""
    shares = dict.fromkeys(("mlm", "mrfr", "mrc", "itm"), 0)
    kinds = set()
    try:
        for one in datasets:
            for task, ratio in zip(one["tasks"], one["mix_ratio"], strict=True):
                ours = "mrc" if task.startswith("mrc") else task
                kinds |= {task} if ours == "mrc" else set()
                shares[ours] += ratio
        least = reduce(gcd, shares.values())
        found: dict[str, Any] = {f"objective.share.{name}": share // least for name, share in shares.items()}
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(
            f"train_datasets is of another form ({error!r}); expected objects with tasks (mlm, mrfr, mrckl, itm) "
            "and mix_ratio"
        ) from error
    if len(kinds) > 1:
        raise UsageError(f"train_datasets mixes {' and '.join(sorted(kinds))}; expected one of them")
    return found | ({"objective.mrc.divergence": "kl" in "".join(kinds)} if kinds else {})


def _sizes(plain: Mapping[str, Any], file: Path) -> dict[str, Mapping[str, Any]]:
    """Those in the file that `model_config` names: beside ours, or one of the release's two."""
    if "model_config" not in plain:
        return {}
    name = PurePosixPath(str(plain["model_config"])).name
    beside = file.parent / name
    if beside.is_file():
        told = _object(beside)
        found = {ours: told[theirs] for theirs, ours in SIZES.items() if theirs in told}
    elif name in NETWORKS:
        found = {ours: getattr(NETWORKS[name], ours) for ours in SIZES.values()}
    else:
        raise UsageError(f"model_config names {name}, which is not beside {file}; put it there")
    return {"model_config": {f"model.{ours}": value for ours, value in found.items()}}


def _left_out(plain: Mapping[str, Any], task: str) -> dict[str, str]:
    """Field of the file that is of no use here -> why."""
    unused = "max_bb" if plain.get("conf_th") == -1 else "num_bb"
    reasons = LEFT_OUT | {unused: "not read by the release either, with this conf_th"}
    if task == "re":
        reasons |= dict.fromkeys(("train_loss", "margin", "hard_ratio"), "the loss is over all regions (cls)")
    return {field: reasons[field] for field in plain if field in reasons}


def _by_recipe(plain: Mapping[str, Any], task: str, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Field that the file lacks -> the settings, as the recipe has them."""
    fields = {**SETTINGS, **OF_TASKS.get(task, {})}
    return {
        field: _said({name: reduce(lambda at, part: at[part], name.split("."), recipe) for name in names})
        for field, names in fields.items()
        if field not in plain
    }


def _said(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_word(value)}" for name, value in found.items())


def _word(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
