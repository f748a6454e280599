"""Tables with headers and captions, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table whose first column names its rows; the other columns stand to the right, as numbers do.

    Args:
        columns: one header a column.
        rows: plain words; each as long as `columns`.
        caption: said above the table.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(_row(row) for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Sequence[tuple[str, str]], *, caption: str) -> str:
    """A table of two columns: what is known, and its value."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    head = f"<caption>{escape(caption)}</caption>"
    return f'<div class="wide"><table class="facts">{head}<tbody>{body}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """`body` behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
