"""`diptych regions`: make regions of a table's pictures, look at them, and bring them from and to old files."""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import regions_files, regions_probe, regions_train, screen
from diptych.cli.options import Device, JsonFile
from diptych.cli.verbs import Verbs
from diptych.errors import UsageError
from diptych.progress import SILENT

if TYPE_CHECKING:
    from diptych.data.regions import RegionSpec, RegionStore
    from diptych.data.table import Table
    from diptych.prepare.extraction import ExtractionResult
    from diptych.report.region_summary import RegionSummary

FORMAT = 1
DAMAGE_TOLD = 10
"""Damaged rows that are named."""
RANK_TIMEOUT_S = 24 * 3600.0
"""One process may be done long before another."""
GO_ON = "What was extracted is kept, shard by shard: the same command goes on from there."
PROMPTS = "photo"
"""How words are put to a CLIP where nothing else is said."""
NUM_SHOWN, BOXES = 24, 12
"""Pictures on a page, and regions drawn over each."""

regions_app = typer.Typer(help="Regions of pictures: what UNITER and Oscar read in place of pixels.", cls=Verbs)
regions_app.command("train")(regions_train.train)
regions_app.command("import")(regions_files.import_)
regions_app.command("export")(regions_files.export)
regions_app.command("compare")(regions_files.compare)
regions_app.command("probe")(regions_probe.probe)


@regions_app.command("extract")
def extract(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table of pictures.")],
    out: Annotated[Path, typer.Option(metavar="REGIONS", help="Folder of the new store.")],
    tower: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Windows over the image tower of a CLIP: no detector is needed.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="NAME:WEIGHTS", help="butd:PATH, own:RUN, windows:CLIP or grid:CLIP.")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Regions are the boxes of this column, e.g. objects.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="How many regions a released consumer reads: uniter, oscar or fixed36.")
    ] = None,
    words: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Name the regions from this list of words, one a line.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option("--clip", metavar="CLIP", help="That names them; left out: the one of windows or grid."),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="How a word is put to the CLIP: a text with {}, or a set; left out: photo.")
    ] = None,
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Of these rows only; may be given several times.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures of each split.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Of the detector, e.g. side=8 or max_boxes=50."),
    ] = None,
    soft_labels: Annotated[
        bool, typer.Option("--soft-labels", help="Keep the whole softmax of every region, not the likeliest five.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    shard: Annotated[int, typer.Option(min=1, help="Pictures of one file; a kill costs no more.")] = 256,
    max_rejects: Annotated[float, typer.Option(help="Share of bad pictures at which it stops.")] = 0.05,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Make regions of every picture of a table: `diptych regions extract flickr --tower runs/first --out r`.

    Disk and time are predicted first. Stopped, the same command goes on. `torchrun` shares the pictures out.
    """
    from diptych.cli.regions_default import chosen_detector
    from diptych.data.region_shards import RegionShards
    from diptych.data.table import check_pictures, open_table
    from diptych.prepare.extraction import Asked, extract_regions
    from diptych.prepare.given import check_boxes_column
    from diptych.prepare.presets import preset as named_preset
    from diptych.ranks import join_ranks
    from diptych.systems.detectors import name_regions, named_detector

    table = open_table(data)
    check_pictures(*map(table.split, splits or table.splits))  # what is wrong is told before the model is loaded
    named = chosen_detector(table, out, detector, tower)
    asked = Asked(
        splits=tuple(splits or ()),
        limit=limit,
        boxes=boxes,
        preset=None if preset is None else named_preset(preset),
        batch=batch,
        pictures_per_shard=shard,
        max_rejects=max_rejects,
    )
    if boxes is not None:
        check_boxes_column(table, boxes)
    naming = _naming(named, words, clip, template, soft_labels)
    with (
        join_ranks(device, RANK_TIMEOUT_S, go_on=GO_ON) as ranks,
        screen.progress() if ranks.leads else nullcontext(SILENT) as progress,
    ):
        found = named_detector(
            named,
            preset=asked.preset,
            settings=settings or (),
            boxes_given=boxes is not None,
            soft_labels=soft_labels,
            device=device,
        )
        for line in (*screen.left_out(found.ignored), *(f"Note: {note}" for note in found.notes)):
            progress.say(f"{line}.")
        finds = found.detector
        if naming is not None:
            finds = name_regions(
                finds, naming.clip, naming.words, template=naming.template, device=device, progress=progress
            )
        spec = asked.spec(finds, found.name)
        warning = None if asked.preset is None else asked.preset.warning(spec, found.name)
        if warning is not None:
            progress.say(f"Note: {warning}.")
        shards = RegionShards(
            out,
            spec,
            soft_labels=soft_labels,
            num_soft_labels=getattr(found.detector, "num_soft_labels", None),
            source=asked.source(table),
        )
        result = extract_regions(finds, table, shards, asked, ranks=ranks, progress=progress)
    if ranks.leads:
        _tell(result, spec, data, json_file)


@regions_app.command("show")
def show(
    regions: Annotated[Path, typer.Argument(metavar="REGIONS", help=regions_files.SOURCE_HELP)],
    data: Annotated[Path | None, typer.Option(help="The table of the pictures; needed for a page.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw regions over pictures on this page.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Pictures on the page, evenly spread over the store.")] = NUM_SHOWN,
    boxes: Annotated[int, typer.Option(min=1, help="Regions drawn over each, the best.")] = BOXES,
    classes: regions_files.Classes = None,
    attributes: regions_files.Attributes = None,
    labels: regions_files.Labels = None,
    json_file: JsonFile = None,
) -> None:
    """Say what a store holds, and draw boxes, names and attributes over the pictures."""
    from diptych.cli.json_file import write_json
    from diptych.data.table import check_pictures, open_table
    from diptych.report.region_summary import describe_regions

    if html is not None and data is None:
        raise UsageError("a page shows the pictures; name their table too: --data DATA")
    table = None if data is None else open_table(data)
    if table is not None:
        check_pictures(*map(table.split, table.splits))
    store = regions_files.opened(regions, classes, attributes, labels)
    found = describe_regions(store)
    screen.table(str(regions), ("", "regions"), found.rows())
    screen.out()
    screen.damage(dict(list(found.damaged.items())[:DAMAGE_TOLD]), len(found.damaged))
    if found.rejects:
        screen.reasons("Left out", "rows", Counter(reject.reason for reject in found.rejects))
        screen.out()
    if json_file is not None:
        write_json(json_file, found.plain())
    if html is None or table is None:
        words = ["diptych", "regions", "show", str(regions), "--data", "DATA" if data is None else str(data)]
        screen.next_step(shlex.join([*words, "--html", f"{regions.resolve().name}.html"]))
        return
    draw_page(store, table, found, html, num=num, boxes=boxes)
    screen.out(f"Page: {html}")
    screen.next_step(screen.look_at(html))


def draw_page(
    store: RegionStore, table: Table, summary: RegionSummary, html: Path, *, num: int = NUM_SHOWN, boxes: int = BOXES
) -> None:
    """Writes the page of `regions show`."""
    from diptych.data.durable import write_whole
    from diptych.report.page import render
    from diptych.report.regions import regions_page

    html.parent.mkdir(parents=True, exist_ok=True)
    write_whole(html, render(regions_page(store, table, summary, num=num, boxes=boxes)).encode())


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """What regions are named with."""

    clip: str
    words: Path
    template: str


def _naming(
    named: str, words: Path | None, clip: str | None, template: str | None, soft_labels: bool
) -> _Naming | None:
    """What the regions of the detector `named` are named with; None where they keep its own names."""
    from diptych.systems.detectors import OVER_A_CLIP, words_of

    if words is None:
        if clip is not None:
            raise UsageError("--clip names regions from a word list; pass it too: --words FILE")
        if template is not None:
            raise UsageError("--template is how words are put to the CLIP that names regions; pass them: --words FILE")
        return None
    if soft_labels:
        raise UsageError(
            "--words gives regions classes of yours, for which there is no softmax; leave --soft-labels out"
        )
    words_of(words)  # whether they can be told apart
    name, _, source = named.partition(":")
    namer = clip or (source if name in OVER_A_CLIP else None)
    if namer is None:
        raise UsageError(f"--words needs a CLIP that names the regions of {name}: --clip RUN")
    return _Naming(clip=namer, words=words, template=template or PROMPTS)


def _tell(result: ExtractionResult, spec: RegionSpec, data: Path, json_file: Path | None) -> None:
    """What came of it, on the screen and as JSON."""
    from dataclasses import asdict

    from diptych.cli.json_file import write_json
    from diptych.progress import spoken_time

    mean = result.regions / result.pictures
    screen.table(
        str(result.out),
        ("", "regions"),
        [
            ("pictures", f"{result.pictures:,}"),
            ("regions", f"{result.regions:,} ({mean:.1f} a picture)"),
            ("features", f"{spec.feature_width} numbers, {spec.feature_kind}"),
            ("rule", spec.rule),
            ("for", spec.consumer or "no released weights"),
            ("rejected", f"{result.rejects:,}"),
            ("took", spoken_time(result.seconds)),
        ],
    )
    screen.out()
    if result.rejects:
        screen.reasons(f"rejected, listed in {result.out / 'rejects.jsonl'}", "pictures", result.reasons)
        screen.out()
    if json_file is not None:
        write_json(json_file, {"format": FORMAT, **asdict(result), "out": str(result.out), "spec": asdict(spec)})
    page = f"{result.out.resolve().name}.html"
    screen.next_step(shlex.join(["diptych", "regions", "show", str(result.out), "--data", str(data), "--html", page]))
