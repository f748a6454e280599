"""Score: one number of a result with its chance and interval. The table, metrics.json and the sentences read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from diptych.data.show import ShownTable
from diptych.metrics.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number."""

    name: str
    """Its key in metrics.json, e.g. "text_to_image_r1"."""
    label: str
    """What it is, in a few words for people."""
    group: str
    """The heading it stands under, e.g. "Retrieval"."""
    value: float
    count: int
    """How many queries, questions or rows it was measured on."""
    chance: float | None = None
    """What guessing gets."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    unit: str = "share"
    """"share": shown in per cent; "rank": from 1, less is better."""

    @property
    def near_chance(self) -> bool:
        """The interval includes chance, so that nothing shows that the model knows better than a guess."""
        return None not in (self.chance, self.low, self.high) and self.low <= self.chance <= self.high  # type: ignore[operator]


def share(*, name: str, label: str, group: str, right: float, count: int, chance: float | None = None) -> Score:
    """A share with its 95 % Wilson interval.

    Args:
        name: its key in metrics.json.
        label: for people.
        group: the heading.
        right: how many of `count` were right, or the sum of what they were worth.
        count: how many there were.
        chance: what guessing gets, in [0, 1].
    """
    low, high = wilson(right, count)
    value = right / count if count else 0.0
    return Score(
        name=name, label=label, group=group, value=value, count=count, chance=chance, low=low, high=high
    )  # fmt: skip


def plain(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """The scores as metrics.json holds them: by name, with everything the table shows."""
    return {
        score.name: {
            "value": score.value,
            "chance": score.chance,
            "low": score.low,
            "high": score.high,
            "count": score.count,
            "unit": score.unit,
            "label": score.label,
            "group": score.group,
        }
        for score in scores
    }


def from_plain(results: dict[str, dict[str, Any]]) -> list[Score]:
    """What `plain` made, as scores again."""
    return [Score(name=name, **fields) for name, fields in results.items()]


def words(value: float | None, unit: str = "share") -> str:
    """A value as the tables write it: 41.2 %, or a rank; a dash where there is none.

    >>> words(0.412), words(0.0), words(12.0, "rank"), words(None)
    ('41.2 %', '0.0 %', '12', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:g}"


def interval(score: Score) -> str:
    """The interval in words, or a dash."""
    if score.low is None or score.high is None:
        return "–"
    return f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def cells(score: Score) -> tuple[str, str, str, str, str]:
    """A row of the table of results: what, value, chance, interval, number."""
    return (
        score.label,
        words(score.value, score.unit),
        words(score.chance, score.unit),
        interval(score),
        f"{score.count:,}",
    )


COLUMNS = ("", "result", "chance", "95 % interval", "measured on")


def shown_tables(scores: Sequence[Score]) -> list[ShownTable]:
    """The table of results as a terminal draws it, one for each heading, with the very words of the page."""
    return [
        ShownTable(title=group, columns=COLUMNS, rows=[cells(score) for score in of_group])
        for group, of_group in groupby(scores, lambda score: score.group)
    ]


def scores_table(scores: Sequence[Score]) -> str:
    """The table of results, a heading for each group; every cell carries the name of its score."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in COLUMNS)
    body = "".join(_group_rows(group, list(of_group)) for group, of_group in groupby(scores, lambda score: score.group))
    return f'<div class="wide"><table class="scores"><thead><tr>{head}</tr></thead>{body}</table></div>'


def near_chance_words(scores: Sequence[Score]) -> str | None:
    """A sentence that names what stays near chance, or None where nothing does."""
    names = [score.label for score in scores if score.near_chance]
    if not names:
        return None
    return (
        f"Near chance: {listed(names)}. "
        "The 95 % interval of the result includes what guessing gets, so nothing here shows that the model knows it."
    )


def listed(names: Sequence[str]) -> str:
    """Names as a person lists them.

    >>> listed(["texture"]), listed(["texture", "relations", "binding"])
    ('texture', 'texture, relations and binding')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _group_rows(group: str, scores: Sequence[Score]) -> str:
    return f"<tbody>{''.join(_rows(group, scores))}</tbody>"


def _rows(group: str, scores: Sequence[Score]) -> Iterator[str]:
    yield f'<tr class="group"><th scope="rowgroup" colspan="{len(COLUMNS)}">{escape(group)}</th></tr>'
    for score in scores:
        label, value, chance, reach, count = map(escape, cells(score))
        near = ' <span class="mark-wrong">near chance</span>' if score.near_chance else ""
        yield (
            f'<tr data-score="{escape(score.name)}"><th scope="row">{label}{near}</th><td><strong>{value}</strong></td>'
            f"<td>{chance}</td><td>{reach}</td><td>{count}</td></tr>"
        )
