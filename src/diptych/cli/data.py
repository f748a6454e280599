"""`diptych data`: draw the picture world, import pictures and texts, show what a table holds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diptych.cli import data_partners, screen
from diptych.cli.options import JsonFile
from diptych.cli.verbs import Verbs
from diptych.errors import UsageError

if TYPE_CHECKING:
    from diptych.data.importing import ImportResult
    from diptych.data.show import Holds

data_app = typer.Typer(help="Make tables of pictures and texts, and look at them.", cls=Verbs)


@data_app.command("scenes")
def scenes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new table.")],
    n: Annotated[int, typer.Option("--n", help="Scenes in all splits together.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed draws the same scenes.")] = 0,
    style: Annotated[str, typer.Option(help="easy (the demo's) or hard (for research).")] = "easy",
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 96,
    workers: Annotated[int | None, typer.Option(help="Processes; one for each core if left out.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="DIAL=VALUE", help="Any dial of the world, e.g. clutter=8.")
    ] = None,
) -> None:
    """Draw the built-in picture world: small scenes with texts, boxes, statements and questions.

    Stopped, the same command goes on.
    """
    from diptych.data import scenes as world
    from diptych.data.loader import usable_cores
    from diptych.overrides import apply_overrides

    dials = apply_overrides(world.style(style, num=n, seed=seed, size_px=size), settings or [])
    with screen.progress() as progress:
        world.draw_scenes(out, dials, progress=progress, workers=workers or usable_cores())
    screen.next_step(_next(out, ("train", "validation")))


@data_app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, a file, or a name on the hub.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new table.")],
    format: Annotated[  # noqa: A002 - the word that users type
        str | None, typer.Option(help="Name the format where it is not recognised; a wrong name lists them.")
    ] = None,
    max_rejects: Annotated[float, typer.Option(help="Share of bad rows at which the import stops.")] = 0.05,
    max_pixels: Annotated[int, typer.Option(help="Larger pictures are rejected.")] = 100_000_000,
    reference: Annotated[
        bool, typer.Option("--reference", help="Store where the pictures lie, not their bytes.")
    ] = False,
    validation: Annotated[
        float, typer.Option(help="Share held out as validation where the source names no splits; 0: none.")
    ] = 0.05,
    json_file: JsonFile = None,
) -> None:
    """Make a table of pictures and texts, or of pictures alone: folders, CSV, JSON lines, Parquet, COCO, tars ...

    Bad rows are listed with their reason in OUT/rejects.jsonl. Stopped, the same command goes on.
    """
    from diptych.data.importing import import_table

    with screen.progress() as progress:
        result = import_table(
            source,
            out,
            format=format,
            max_rejects=max_rejects,
            max_pixels=max_pixels,
            reference=reference,
            validation=validation,
            progress=progress,
        )
    if json_file is not None:
        _write_json(json_file, {**asdict(result), "out": str(out)})
    _tell(result)
    screen.next_step(_regions(out) if _wordless(result) else _next(result.out, result.splits, _held(result)))


@data_app.command("examples")
def examples(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A table of scenes (swapped: any); or a file or folder of VQA v2, SNLI-VE, NLVR2, VCR or RefCOCO.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new table.")],
    task: Annotated[
        Literal["vqa", "ve", "nlvr2", "vcr", "re", "swapped"],
        typer.Option(
            help="vqa: questions; ve: statements; nlvr2: statements about two pictures; vcr: answers and rationales to "
            "choose from; re: phrases that mean an object; swapped: texts of any table, with what they become when two "
            "of their words are swapped."
        ),
    ],
    picture_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Files: what a picture is called where its regions lie, e.g. flickr30k_{id}.npz; of VCR twice where "
            "given and detected boxes lie apart."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Write questions, statements or phrases about pictures as examples to fine-tune a model on.

    Regions that were made of scenes serve their examples too.
    """
    from diptych.data.example_files import examples_of_files
    from diptych.data.layout import REJECTS_FILE, TABLE_FILE
    from diptych.data.scene_examples.writing import examples_of_scenes
    from diptych.data.table import open_table

    is_table = (source / TABLE_FILE).is_file()
    if is_table and picture_key:
        raise UsageError("--picture-key is for files; the examples of a table are about the pictures of its keys")
    if not is_table and not source.exists():
        raise UsageError(f"there is nothing at {source}; expected a table of scenes, or the files of a data set")
    left_out = 0
    with screen.progress() as progress:
        if is_table:
            examples_of_scenes(open_table(source), out, task, progress)
        else:
            left_out = examples_of_files(source, out, task, picture_keys=picture_key or (), progress=progress)
        if left_out:
            progress.say(f"{left_out:,} rejected, listed in {out / REJECTS_FILE}")
    splits = open_table(out).splits
    if json_file is not None:
        _write_json(json_file, {"out": str(out), "task": task, "splits": dict(splits), "rejects": left_out})
    screen.table(f"{out}", ("split", "rows"), [(name, f"{rows:,}") for name, rows in splits.items()])
    screen.next_step(_finetune(out, f"tiny_{task}"))


data_app.command("partners")(data_partners.partners)


@data_app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a table.")],
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write a contact sheet to this file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what a table holds: rows, texts and their lengths, sizes of pictures, a few texts."""
    from diptych.data.contact_sheet import contact_sheet
    from diptych.data.show import describe
    from diptych.data.table import open_table

    table = open_table(folder)
    described = describe(table)
    for shown in described.tables():
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    if json_file is not None:
        _write_json(json_file, described.to_plain())
    if html is not None:
        contact_sheet(table, html)
        screen.out(f"Contact sheet: {html}")
    looked = html is not None or described.holds not in ("pairs", "pictures")
    screen.next_step(_next(folder, table.splits, described.holds) if looked else _look(folder))


def _tell(result: ImportResult) -> None:
    """What was imported, and why the rest was not."""
    usual = ("train", "validation", "test")
    order = sorted(result.splits, key=lambda name: (usual.index(name) if name in usual else len(usual), name))
    rows = [(name, f"{result.splits[name]:,}") for name in order]
    counted = "rows" if _held(result) == "texts" else "pictures"
    screen.table(f"{result.out} (read as {result.format})", ("split", counted), rows)
    if _wordless(result):
        screen.out("pictures alone, without texts or labels: for regions, and for no training on words")
    if result.held_out:
        screen.out(
            f"held out {result.held_out:,} of {sum(result.splits.values()):,} as validation (--validation 0: none)"
        )
    if result.rejects:
        screen.out()
        title = f"{result.rejects:,} rejected, listed in {result.out / 'rejects.jsonl'}"
        screen.reasons(title, "rows", result.reasons)
    screen.out()


def _next(folder: Path, splits: Collection[str], holds: Holds = "pairs") -> str:
    """The command that trains the smallest model on what a table holds in these splits; where there is none, a look."""
    if holds == "store":
        return shlex.join(["diptych", "regions", "show", str(folder)])
    if holds not in ("pairs", "pictures", "texts"):
        return _finetune(folder, f"tiny_{holds}")
    if holds == "pictures" or not splits:
        return _look(folder)
    system = "clip" if holds == "pairs" else "uniter"
    words = ["diptych", "train", system, "tiny", "--data", str(folder)]
    words += ["--regions", "REGIONS"] if holds == "texts" else []
    words += ["--out", str(Path("runs") / folder.resolve().name)]
    train = "train" if "train" in splits else next(iter(splits))
    asked = next((name for name in ("validation", "test") if name in splits), train)
    words += [] if train == "train" else ["--set", f"inputs.split={train}"]
    words += [] if asked == "validation" else ["--set", f"training.eval_split={asked}"]
    return shlex.join(words)


def _finetune(examples: Path, recipe: str) -> str:
    words = ["diptych", "finetune", "RUN", recipe, "--data", str(examples), "--regions", "REGIONS"]
    return shlex.join([*words, "--out", str(Path("runs") / recipe.removeprefix("tiny_"))])


def _regions(folder: Path) -> str:
    """The command that makes regions of pictures, with the CLIP that is there."""
    from diptych.cli.regions_default import newest_clip

    words = ["diptych", "regions", "extract", str(folder), "--tower", str(newest_clip() or "CLIP")]
    return shlex.join([*words, "--out", f"{folder}-regions"])


def _wordless(result: ImportResult) -> bool:
    """Whether nothing is said of the pictures."""
    from diptych.data.formats.detect import WITHOUT_WORDS

    return result.format in WITHOUT_WORDS


def _look(folder: Path) -> str:
    return shlex.join(["diptych", "data", "show", str(folder), "--html", f"{folder.resolve().name}.html"])


def _held(result: ImportResult) -> Holds:
    """What was imported."""
    from diptych.data.formats.detect import WITHOUT_PICTURES

    if result.format in WITHOUT_PICTURES:
        return "texts"
    return "pairs" if result.texts else "pictures"


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    from diptych.data.durable import write_whole

    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
