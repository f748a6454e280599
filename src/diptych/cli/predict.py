"""`diptych predict`: the answers of a fine-tuned model to every row of a split, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import screen
from diptych.cli.evaluate import evaluate_command
from diptych.cli.options import Device, RegionStores
from diptych.cli.tables import split_to_evaluate, with_regions


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that was fine-tuned to answer.")],
    data: Annotated[Path, typer.Option(help="A table of examples; nobody needs to tell their answers.")],
    regions: RegionStores,
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="JSON, or CSV for VCR and NLVR2.")],
    split: Annotated[str | None, typer.Option(help="Left out: test, else validation, else train.")] = None,
    device: Device = "auto",
) -> None:
    """Write the answers of a model to the rows of a split, in the form that the task's server takes.

    A list of {question_id, answer} (VQA), lines of identifier and truth (NLVR2), a table of likelihoods (VCR), or a
    list of {sent_id, box} (referring expressions).
    """
    from diptych import systems
    from diptych.data.durable import write_whole
    from diptych.data.examples import BOX
    from diptych.data.table import open_table
    from diptych.tasks.answering import answering
    from diptych.tasks.asking import as_answerer, as_pointer
    from diptych.tasks.fused_matcher import FusedMatcher
    from diptych.tasks.referring import referring
    from diptych.tasks.submission import answers_file, boxes_file

    table = with_regions(open_table(data), regions)
    rows = table.split(split or split_to_evaluate(table.splits, "train"))
    model = systems.load_any(run, device=device)
    task = "referring" if BOX in table.columns else "answers"
    with screen.progress() as progress:
        if isinstance(model, FusedMatcher):
            model.check_rows(rows, progress.say)
        if task == "referring":
            text = boxes_file(referring(as_pointer(model, task), rows, scored=False, progress=progress))
        else:
            answerer = as_answerer(model, task)
            text = answers_file(answering(answerer, rows, scored=False, progress=progress), answerer.answers)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, text.encode())
    screen.out(f"{len(rows):,} rows: {out}")
    screen.next_step(evaluate_command(run, task, data, rows.name, None, regions))
