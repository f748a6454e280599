"""What the command line draws, in a terminal of 80 columns."""

from __future__ import annotations

import io
import re

import torch
from rich.console import Console

from diptych.cli import bars, screen
from diptych.report.scores import shown_tables
from diptych.tasks.evidence import retrieval_scores
from diptych.tasks.retrieval import RetrievalResult

TABLE = """\
Retrieval
                                   result  chance  95 % interval  measured on
right picture first (R@1)         100.0 %   0.2 %  99.2 to 100.0          500
right picture in first 5 (R@5)    100.0 %   1.0 %  99.2 to 100.0          500
right picture in first 10 (R@10)  100.0 %   2.0 %  99.2 to 100.0          500
right picture, median rank              1       –              –          500
right text first (R@1)            100.0 %   0.2 %  99.2 to 100.0          500
right text in first 5 (R@5)       100.0 %   1.0 %  99.2 to 100.0          500
right text in first 10 (R@10)     100.0 %   2.0 %  99.2 to 100.0          500
right text, median rank                 1       –              –          500
"""


def test_no_line_of_the_widest_table_is_broken_at_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    [shown] = shown_tables(retrieval_scores(all_right(500)))
    screen.table(shown.title, shown.columns, shown.rows)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == TABLE.splitlines()


def test_a_table_is_wider_than_a_narrow_terminal_rather_than_cut(capsys, monkeypatch):
    """The first column whole, the others in words."""
    monkeypatch.setenv("COLUMNS", "20")
    rows = [["--set a.very_long_setting=true", "1.71 GB", "more work"]]
    screen.table("", ["change", "saves", "price"], rows, whole_first=True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == ["--set a.very_long_setting=true   1.71  more", "                                   GB  work"]


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(monkeypatch):
    monkeypatch.setattr(bars, "LINE_EVERY_S", 0.0)
    told = io.StringIO()
    with bars.PlainReporter(Console(file=told, width=80)).bar("drawing", 3, "scenes") as bar:
        for _ in range(3):
            bar.advance(note="[calm]")
    lines = [re.sub(r"[\d,.]+ scenes/s|\d+ s\b", "N", line) for line in told.getvalue().splitlines()]
    assert lines == [
        "drawing: 1/3 scenes, N, N left, [calm]",
        "drawing: 2/3 scenes, N, N left, [calm]",
        "drawing: 3/3 scenes, N, took N, [calm]",
    ]


def all_right(num: int) -> RetrievalResult:
    """Every text finds its picture, and every picture its text."""
    names = tuple(map(str, range(num)))
    return RetrievalResult(
        split="test",
        rows=tuple(range(num)),
        keys=names,
        groups=names,
        texts=names,
        text_owner=tuple(range(num)),
        image=torch.eye(num),
        text=torch.eye(num),
        text_to_image_ranks=torch.zeros(num, dtype=torch.long),
        image_to_text_ranks=torch.zeros(num, dtype=torch.long),
    )
