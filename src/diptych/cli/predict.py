"""`diptych predict`: the answers of a fine-tuned model to every row of a split, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import screen
from diptych.cli.evaluate import evaluate_command
from diptych.cli.train import split_to_evaluate, with_regions


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that was fine-tuned to answer.")],
    data: Annotated[Path, typer.Option(help="A table of examples; nobody needs to tell their answers.")],
    regions: Annotated[
        list[Path], typer.Option(metavar="REGIONS", help="Regions of the pictures; several times for several.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="JSON: a list of {question_id, answer}.")],
    split: Annotated[str | None, typer.Option(help="Left out: test, else validation, else train.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Write the answers of a model to the questions of a split, in the form that VQA's server takes.

    Keys that are whole numbers, as VQA's are, are written as such.
    """
    from diptych import systems
    from diptych.data.durable import write_whole
    from diptych.data.table import open_table
    from diptych.tasks.answering import answering
    from diptych.tasks.asking import as_answerer
    from diptych.tasks.matcher import FusedMatcher

    table = with_regions(open_table(data), regions)
    rows = table.split(split or split_to_evaluate(table.splits, "train"))
    model = systems.load_any(run, device=device)
    with screen.progress() as progress:
        if isinstance(model, FusedMatcher):
            model.check_rows(rows, progress.say)
        found = answering(as_answerer(model, "answers"), rows, scored=False, progress=progress)
    lines = [{"question_id": _id(one.key), "answer": one.answer} for one in found]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(lines, ensure_ascii=False, indent=0) + "\n").encode())
    screen.out(f"{len(lines):,} answers: {out}")
    screen.next_step(evaluate_command(run, "answers", data, rows.name, None, regions))


def _id(key: str) -> int | str:
    """A key as VQA has it, a whole number, where nothing of it is lost by that."""
    return int(key) if key.isdecimal() and str(int(key)) == key else key
