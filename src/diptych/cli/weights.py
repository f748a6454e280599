"""`diptych weights`: say what a file of weights holds, and write it in another layout."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from diptych.cli import regions_files, screen
from diptych.cli.json_file import write_json
from diptych.cli.options import JsonFile
from diptych.cli.verbs import Verbs
from diptych.cli.weights_rows import rows_of

if TYPE_CHECKING:
    from diptych.systems.converting import Description, Layout

weights_app = typer.Typer(help="Published weights: what they are, and from one layout to another.", cls=Verbs)

_SOURCE_HELP = (
    "A run, OpenAI's or UNITER's .pt, a folder of open_clip or Hugging Face, bottom-up attention's folder, .pkl or "
    ".pth, or a name on their hub."
)
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
    json_file: JsonFile = None,
) -> None:
    """Say what weights these are: layout, towers, sizes, activation, preprocessing."""
    from diptych import systems
    from diptych.overrides import to_plain

    found = systems.describe(source, config)
    screen.table(source, ("", "found"), rows_of(found))
    for line in (*screen.left_out(found.ignored), *(f"Note: {note}" for note in found.notes)):
        screen.out(line)
    screen.out()
    if json_file is not None:
        write_json(json_file, to_plain(found))
    screen.next_step(_next(source, config, found))


def _next(source: str, config: str | None, found: Description) -> str:
    """What is done with such weights next: conversion into a folder that is not there yet, a training, or regions."""
    if found.layout == "bert":
        return _begin_with(source, found.config)
    if found.layout == "diptych" and found.system in ("detector", "bottom-up attention"):
        return _extraction("own" if found.system == "detector" else "butd", source)
    layout = "diptych"
    if found.layout == "diptych":
        layout = "uniter" if found.system == "uniter" else "open_clip"
    name = f"{Path(source.removeprefix('hf-hub:')).resolve().name}-{layout}"
    candidates = (Path(f"{name}{ending}") for ending in ("", *(f"-{number}" for number in range(2, 1000))))
    out = next(folder for folder in candidates if not folder.exists())
    words = ["diptych", "weights", "convert", source, str(out), "--to", layout]
    return shlex.join([*words, *([] if config is None else ["--config", config])])


def _begin_with(source: str, config: Any) -> str:
    """The command that begins UNITER's pre-training with these weights, of whatever size they are."""
    from diptych import systems

    words = ["diptych", "train", "uniter", "base_indomain", "--init", source]
    recipe = systems.recipe("uniter", "base_indomain").model
    for name in ("width", "depth", "heads", "mlp_width", "positions"):
        if getattr(config, name) != getattr(recipe, name):
            words += ["--set", f"model.{name}={getattr(config, name)}"]
    if config.positions < recipe.context:
        words += ["--set", f"model.context={config.positions}"]
    return shlex.join([*words, "--data", "DATA", "--regions", "REGIONS", "--out", "RUN"])


@weights_app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", metavar="LAYOUT", help="open_clip, huggingface, uniter or diptych.")],
    config: Config = None,
    classes: regions_files.Classes = None,
    attributes: regions_files.Attributes = None,
) -> None:
    """Write weights as a folder that open_clip, transformers, UNITER's code or diptych loads.

    Names of classes and attributes are for bottom-up attention, and travel with its folder.
    """
    from diptych import systems

    names = {"classes": regions_files.names_in(classes), "attributes": regions_files.names_in(attributes)}
    for sentence in systems.convert(source, out, cast("Layout", to), config, **names):
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
        case _ if (out / "run.json").is_file():
            return f'diptych.load("{out}")'
        case _:
            return _extraction("butd", str(out))


def _extraction(name: str, source: str) -> str:
    return shlex.join(["diptych", "regions", "extract", "DATA", "--detector", f"{name}:{source}", "--out", "REGIONS"])
