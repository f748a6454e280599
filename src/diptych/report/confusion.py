"""Confusion picture: what each class is taken for, as a table that colours its cells."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from diptych.report.grids import heat_cell

MOST_CLASSES = 24


def confusion_table(counts: Tensor, names: Sequence[str], *, caption: str) -> str:
    """Shares of each class's rows by the class they were taken for.

    Args:
        counts: (C, C) int64, true class by row, predicted class by column.
        names: C names. Of more than 24 classes, those with the most mistakes are shown.
        caption: said above the table.
    """
    rows = [row for row in _shown(counts) if int(counts[row].sum()) > 0]
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    heads = "".join(f'<th scope="col"><div class="turned">{escape(names[column])}</div></th>' for column in rows)
    lines = "".join(_line(shares, row, rows, names) for row in rows)
    left_out = sum(int(count) > 0 for count in counts.sum(dim=1)) - len(rows)
    more = f" {left_out} classes with fewer mistakes are not shown." if left_out else ""
    head = f'<thead><tr><td aria-label="true class by row, taken for by column"></td>{heads}</tr></thead>'
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(caption + more)}</caption>'
        f"{head}<tbody>{lines}</tbody></table></div>"
    )


def worst_classes(counts: Tensor, names: Sequence[str], num: int = 5) -> str:
    """The most frequent mistakes in a sentence."""
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    order = wrong.flatten().argsort(descending=True, stable=True)[:num].tolist()
    pairs = [(at // len(names), at % len(names)) for at in order if int(wrong.flatten()[at]) > 0]
    if not pairs:
        return "No class is taken for another."
    told = ", ".join(
        f"{names[true]} taken for {names[taken]} ({int(wrong[true, taken])} of {int(counts[true].sum())})"
        for true, taken in pairs
    )
    return f"The most frequent mistakes: {told}."


def _shown(counts: Tensor) -> list[int]:
    if len(counts) <= MOST_CLASSES:
        return list(range(len(counts)))
    wrong = counts.sum(dim=1) - counts.diagonal()
    return sorted(torch.argsort(wrong, descending=True, stable=True)[:MOST_CLASSES].tolist())


def _line(shares: Tensor, row: int, columns: Sequence[int], names: Sequence[str]) -> str:
    cells = "".join(
        heat_cell(f"{100 * share:.0f}" if share >= 0.005 else "", share, own=row == column)
        for column in columns
        for share in [float(shares[row, column])]
    )
    return f'<tr><th scope="row">{escape(names[row])}</th>{cells}</tr>'
