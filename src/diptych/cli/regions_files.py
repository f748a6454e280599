"""`diptych regions import`, `export` and `compare`: old files of regions, read in place or turned into stores."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import JsonFile
from diptych.errors import UsageError, unknown

if TYPE_CHECKING:
    from diptych.data.regions import RegionStore

FORMAT = 1
SOURCE_HELP = "A store, UNITER's LMDB or folder of npz files, or a TSV of bottom-up attention, LXMERT, Oscar or VinVL."
Classes = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Names in the order of class ids, one a line, where it has none.")
]
Attributes = Annotated[Path | None, typer.Option(metavar="FILE", help="Likewise of attributes.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Oscar's file of labels, where it lies elsewhere.")]


def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new store.")],
    classes: Classes = None,
    attributes: Attributes = None,
    labels: Labels = None,
    soft_labels: Annotated[
        bool, typer.Option("--soft-labels/--no-soft-labels", help="Keep the whole softmax where the source has it.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Turn old files of regions into a store. Stopped, the same command goes on."""
    from dataclasses import asdict

    from diptych.cli.json_file import write_json
    from diptych.data.region_importing import import_regions

    store = opened(source, classes, attributes, labels)
    with screen.progress() as progress:
        result = import_regions(store, out, soft_labels=soft_labels, progress=progress)
    counts = [("pictures", f"{result.pictures:,}"), ("rejected", f"{result.rejects:,}")]
    screen.table(str(out), ("", "regions"), counts)
    screen.out()
    if result.rejects:
        screen.reasons(f"rejected, listed in {out / 'rejects.jsonl'}", "pictures", result.reasons)
        screen.out()
    if json_file is not None:
        write_json(json_file, {"format": FORMAT, **asdict(result), "out": str(out)})
    screen.next_step(shlex.join(["diptych", "regions", "show", str(out)]))


def export(
    regions: Annotated[Path, typer.Argument(metavar="REGIONS", help=SOURCE_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new file or folder.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="butd-tsv, lxmert-tsv, uniter-npz or oscar-tsv.")],
    classes: Classes = None,
    attributes: Attributes = None,
    labels: Labels = None,
) -> None:
    """Write a store as the files that other systems read. Stopped, the same command goes on."""
    from diptych.data.region_exporting import NAMES, export_regions, rejects_file

    if to not in NAMES:
        raise UsageError(unknown("format", to, NAMES))
    store = opened(regions, classes, attributes, labels)
    with screen.progress() as progress:
        result = export_regions(store, out, format=to, progress=progress)
    screen.out(f"Written: {out} ({to}, {result.pictures:,} pictures)")
    if result.rejects:
        screen.out()
        screen.reasons(f"{result.rejects:,} rejected, listed in {rejects_file(out)}", "pictures", result.reasons)
        screen.out()
    ends = "the last pixels inside" if store.spec.plus_one else "where a box ends"
    screen.out(f"Boxes as they came: x1 and y1 are {ends}, as {result.side} says")
    if result.left_out:
        screen.out(f"Left out, since {to} does not hold them: {', '.join(result.left_out)}")
    screen.next_step(shlex.join(["diptych", "regions", "compare", str(out), str(regions)]))


def compare(
    new: Annotated[Path, typer.Argument(metavar="NEW", help=SOURCE_HELP)],
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Somebody's regions of the same pictures.")],
    keys: Annotated[
        str | None,
        typer.Option(help="How pictures are found in both: same, name or number; left out: the first that finds any."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Hold new regions against old ones of the same pictures: overlap of boxes, cosine of features."""
    from diptych.cli.json_file import write_json
    from diptych.data.region_compare import compare_regions

    with screen.progress() as progress:
        found = compare_regions(opened(new), opened(old), keys=keys, limit=limit, progress=progress)
    rows = [
        ("pictures compared", f"{found.pictures:,}"),
        ("found in both by", found.keys),
        ("of the old, not in the new", f"{found.missing:,}"),
        *([("damaged in either", f"{found.damaged:,}")] if found.damaged else []),
        ("overlap of boxes (mean IoU)", f"{found.mean_iou:.3f}"),
        ("boxes that overlap by half", f"{100 * found.overlapping:.1f} %"),
        ("cosine of their features", f"{found.mean_cosine:.4f}"),
    ]
    screen.table(f"{new} beside {old}", ("", "found"), rows)
    screen.out()
    screen.damage(found.damage, found.damaged)
    worst = [
        (one.key, f"{one.num_new}", f"{one.num_old}", f"{one.mean_iou:.3f}" if len(one.iou) else "–")
        for one in found.worst[:5]
    ]
    screen.table("The most different", ("picture", "new", "old", "mean IoU"), worst)
    screen.out()
    if json_file is not None:
        numbers = {name: getattr(found, name) for name in ("mean_iou", "overlapping", "mean_cosine")}
        told: dict[str, object] = {
            name: None if value != value else value for name, value in numbers.items()
        }  # NaN: there is none
        told |= {name: getattr(found, name) for name in ("pictures", "missing", "damaged", "damage", "keys")}
        write_json(json_file, {"format": FORMAT, **told})
    screen.next_step(shlex.join(["diptych", "regions", "show", str(new)]))


def opened(
    path: Path, classes: Path | None = None, attributes: Path | None = None, labels: Path | None = None
) -> RegionStore:
    """The regions at `path`, whoever made them; what is amiss with the files is said."""
    from diptych.data.region_files.detect import open_regions
    from diptych.data.region_files.old_store import notes_of

    store = open_regions(path, classes=names_in(classes), attributes=names_in(attributes), labels=labels)
    for note in notes_of(store):
        screen.say(f"Note: {note}.")
    return store


def names_in(file: Path | None) -> tuple[str, ...]:
    """The names of a vocabulary file; none of none."""
    from diptych.data.word_list import read_vocabulary

    return () if file is None else read_vocabulary(file)
