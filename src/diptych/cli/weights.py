"""`diptych weights`: say what a file of weights holds, and write it in another layout."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from diptych.cli import screen
from diptych.cli.json_file import write_json
from diptych.cli.verbs import Verbs

if TYPE_CHECKING:
    from diptych.systems.converting import Description, Layout

weights_app = typer.Typer(help="Published weights: what they are, and from one layout to another.", cls=Verbs)

_SOURCE_HELP = "A run, OpenAI's or UNITER's .pt, a folder of open_clip or Hugging Face, or a name on their hub."
Config = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE|FILE.json",
        help="What model these weights are of, where nothing beside them says it, e.g. vit_h_14.",
    ),
]


@weights_app.command("identify")
def identify(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE_HELP)],
    config: Config = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it as JSON too.")] = None,
) -> None:
    """Say what weights these are: layout, towers, sizes, activation, preprocessing."""
    from diptych import systems
    from diptych.overrides import to_plain

    found = systems.describe(source, config)
    screen.table(source, ("", "found"), _rows(found))
    for name, reason in found.ignored.items():
        screen.out(f"Left out: {name}, {reason}")
    screen.out()
    if json_file is not None:
        write_json(json_file, to_plain(found))
    screen.next_step(_next(source, config, found))


def _next(source: str, config: str | None, found: Description) -> str:
    """What is done with such weights next: conversion into a folder that is not there yet, or a training."""
    if found.layout == "bert":
        return (
            f"diptych train uniter base_indomain --init {shlex.quote(source)} --data DATA --regions REGIONS --out RUN"
        )
    layout = "diptych"
    if found.layout == "diptych":
        layout = "uniter" if found.system == "uniter" else "open_clip"
    name = f"{Path(source.removeprefix('hf-hub:')).resolve().name}-{layout}"
    candidates = (Path(f"{name}{ending}") for ending in ("", *(f"-{number}" for number in range(2, 1000))))
    out = next(folder for folder in candidates if not folder.exists())
    words = ["diptych", "weights", "convert", source, str(out), "--to", layout]
    return shlex.join([*words, *([] if config is None else ["--config", config])])


@weights_app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", metavar="LAYOUT", help="open_clip, huggingface, uniter or diptych.")],
    config: Config = None,
) -> None:
    """Write weights as a folder that open_clip, transformers, UNITER's code or diptych loads."""
    from diptych import systems

    for sentence in systems.convert(source, out, cast("Layout", to), config):
        screen.out(sentence)
    screen.out(f"Written: {out} ({_how_to_load(out, to)})")
    screen.next_step(f"diptych weights identify {shlex.quote(str(out))}")


def _how_to_load(out: Path, layout: str) -> str:
    match layout:
        case "open_clip":
            return f'open_clip.create_model_and_transforms("local-dir:{out}")'
        case "huggingface":
            return f'transformers.CLIPModel.from_pretrained("{out}")'
        case "uniter":
            return f'torch.save(load_file("{out}/model.safetensors"), "uniter.pt")'
        case _:
            return f'diptych.load("{out}")'


def _rows(found: Description) -> list[tuple[str, str]]:
    common = [
        ("layout", found.layout),
        ("system", found.system),
        ("parameters", f"{found.num_parameters:,} in {found.num_tensors} tensors"),
    ]
    match found.system:
        case "detector":
            return common + _of_detector(found.config)
        case "uniter":
            return common + _of_uniter(found)
        case _:
            return common + _of_towers(found.config)


def _of_uniter(found: Description) -> list[tuple[str, str]]:
    config = found.config
    size = {(12, 768): "base", (24, 1024): "large"}.get((config.depth, config.width), "neither base nor large")
    rows = [
        ("size", f"{size}: {config.depth} layers, {config.width} wide, {config.heads} attention heads"),
        ("texts", f"{config.vocab_size:,} words, at most {config.positions} tokens; {config.types} types of tokens"),
    ]
    if found.layout == "bert":
        return [*rows, ("regions", "none: the text side of a UNITER, to begin a training with")]
    made_by = config.detector or "a detector that the file does not name"
    rows.append(("regions", f"features of {config.feature_width:,} numbers, of {made_by}"))
    return [*rows, ("heads", f"{', '.join(found.heads) or 'none'} ({_release(found.heads)})")]


def _release(heads: tuple[str, ...]) -> str:
    """Which release of a UNITER has such heads."""
    if {"mlm", "itm"} <= set(heads):
        return "as pre-trained"
    tasks = {
        "vqa": "VQA",
        "ve": "visual entailment",
        "vcr": "VCR",
        "nlvr2": "NLVR2",
        "rank": "retrieval",
        "re": "referring expressions",
    }
    found = [name for key, name in tasks.items() if any(head.split("_")[0] == key for head in heads)]
    return f"as fine-tuned for {', '.join(found)}" if found else "as no release has them"


def _of_detector(config: Any) -> list[tuple[str, str]]:
    return [
        ("form", f"Faster R-CNN, {config.backbone} {config.form}"),
        ("pictures", f"shorter side {config.shorter_side} pixels, longer side at most {config.longer_side}"),
        ("mean, std", f"{_listed(config.image_mean)}; {_listed(config.image_std)}"),
        ("classes", f"{len(config.classes)}: {', '.join(config.classes[:8])}{' ...' * (len(config.classes) > 8)}"),
        ("attributes", ", ".join(config.attributes[:8]) + " ..." * (len(config.attributes) > 8) or "none"),
        ("region features", f"{config.feature_width} wide"),
    ]


def _of_towers(config: Any) -> list[tuple[str, str]]:
    crop = {"shortest": "shorter side, then cropped", "longest": "longer side, then padded", "squash": "squashed"}
    return [
        ("shared space", f"{config.embed_dim} wide"),
        ("picture tower", _picture_tower(config)),
        ("pictures", f"{config.image_size} pixels, {crop[config.resize_mode]}, {config.interpolation}"),
        ("mean, std", f"{_listed(config.image_mean)}; {_listed(config.image_std)}"),
        ("text tower", _text_tower(config)),
        ("texts", f"{config.vocab_size} words, at most {config.context} tokens"),
        ("activation", config.activation),
    ]


def _picture_tower(config: Any) -> str:
    if config.image == "timm":
        return f"timm {config.timm_name}"
    patches = f", patches of {config.patch_size}" if config.image == "vit" else ""
    layers = "+".join(str(depth) for depth in config.image_layers)
    return f"{config.image}, {layers} layers, {config.image_width} wide{patches}"


def _text_tower(config: Any) -> str:
    if config.text == "cbow":
        return f"cbow, {config.text_width} wide"
    seen = "causal" if config.causal else "all tokens see each other"
    return f"{config.text}, {config.text_layers} layers, {config.text_width} wide, {seen}, read at: {config.text_pool}"


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)
