"""Published results as rows that can be run again: what each needs, what it should give, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from diptych.errors import DataError
from diptych.report.scores import Score

MEMORY = "~"
"""Before a number that was written down from memory."""
FEW = 0.01
"""Share of a split's rows that may be missing: bad ones are left out of a table."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One published number."""

    score: str
    """The score of the evaluation that it is held against, by name."""
    label: str
    value: float
    """A share."""
    surplus: float = 0.0
    """By how much the source's own metric is too high at most, as a share."""
    confirmed: bool = False
    """Read elsewhere too; else from memory."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Weights, a table or regions that a result is of."""

    what: str
    commands: tuple[str, ...] = ()
    """That make it."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published result: an evaluation of a model on one split."""

    name: str
    """System and result, as "uniter/flickr-zero-shot"."""
    what: str
    numbers: tuple[Expected, ...]
    source: str
    task: str
    """As `evaluate` names it."""
    split: str
    rows: int
    """Of the table's split."""
    weights: Need
    data: Need
    regions: Need
    tolerance: float
    """By how much a number may differ, as a share."""
    because: str
    """Why by so much."""
    remark: str = ""
    """What is not as in the source."""
    ranks: bool = False
    """Whether pairs are scored as by a model that begins to learn ranking: by the logit of a match alone."""
    server: str = ""
    """Who scores it, where nobody else can: then it is answered and sent there."""
    got: str = "not yet run"

    @property
    def answers(self) -> str:
        """The command that writes what a server takes."""
        return f"diptych predict WEIGHTS --data DATA --split {self.split} --regions REGIONS --out answers"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A published number beside the measured one."""

    expected: Expected
    got: float
    low: float
    """The least that passes."""
    high: float

    @property
    def passed(self) -> bool:
        """Whether it is as published."""
        return self.low <= self.got <= self.high


def judged(row: Published, scores: Sequence[Score]) -> tuple[Judged, ...]:
    """The published numbers of a row beside those of an evaluation.

    The source's own metric may be too high, and ours is not: what it may have added is allowed for downwards.
    """
    found: Mapping[str, float] = {score.name: score.value for score in scores}
    return tuple(
        Judged(
            expected=one,
            got=found[one.score],
            low=one.value - row.tolerance - one.surplus,
            high=one.value + row.tolerance,
        )
        for one in row.numbers
    )


def check_rows(row: Published, found: int, where: str) -> None:
    """That a split is the published one, as far as its size tells: before hours of work.

    Raises:
        DataError: it has another number of rows.
    """
    if abs(found - row.rows) > FEW * row.rows:
        raise DataError(
            f"the split {row.split!r} of {where} has {found:,} rows, and {row.name} is published for {row.rows:,}; it "
            f"is another, or too many rows are missing. Run diptych reproduce {row.name} to see how it is made"
        )


def percent(one: Expected) -> str:
    """A number as papers write it, marked where it is from memory.

    >>> percent(Expected(score="accuracy", label="", value=0.661)
    ... ), percent(Expected(score="accuracy", label="", value=0.661, confirmed=True))
    ('~66.10', '66.10')
    """
    return f"{'' if one.confirmed else MEMORY}{100 * one.value:.2f}"


def expectation(row: Published) -> str:
    """All of a row's numbers in a line."""
    return ", ".join(f"{one.label} {percent(one)}".lstrip() for one in row.numbers)


def allowance(row: Published) -> str:
    """The tolerance in points, with what the source's metric may have added; a dash where a server scores."""
    if row.server:
        return "–"
    surplus = [f"{100 * one.surplus:.2g}" for one in row.numbers if one.surplus]
    added = f", and down to {' / '.join(surplus)} more" if surplus else ""
    return f"{100 * row.tolerance:.1f}{added}"


PAGE = """# Published results, and whether they are reached

Every row is one evaluation. The page is made of the list in the code, by
`diptych reproduce --markdown docs/reproduced.md`, and a test holds the two together.

```
diptych reproduce
diptych reproduce uniter/flickr-zero-shot
diptych reproduce uniter/flickr-zero-shot --weights W --data D --regions R
```
The first lists the rows. The second says which files a row needs, and the commands that make them. The third runs it:
expected, got, difference, and pass or fail, which is the exit code too (0 or 1; 2 where it was not run). `--json FILE`
has all of it.

Numbers are in per cent. **{mark} marks those that are from memory**: they were not read in the source when they were
written down here, so hold them against it before you quote them. A row passes where every number of it is within the
tolerance, in points. A table whose split has another number of rows than the published one is refused.
"""


def markdown(rows: Sequence[Published]) -> str:
    """The page of all rows."""
    parts = [PAGE.format(mark=MEMORY)]
    for system, found in groupby(rows, lambda row: row.name.partition("/")[0]):
        of_system = list(found)
        parts.append(f"## {system.upper()}\n")
        parts.append("| row | what | expected | tolerance | rows | got |\n|---|---|---|---|---|---|")
        parts += [
            f"| `{row.name}` | {row.what} | {expectation(row)} | {allowance(row)} | {row.rows:,} | {row.got} |"
            for row in of_system
        ]
        parts.append("\n" + "\n".join(_remarks(of_system)) + "\n")
    return "\n".join(parts)


def _remarks(rows: Sequence[Published]) -> list[str]:
    """What holds for several rows, once."""
    sources = dict.fromkeys(row.source for row in rows)
    lines = [f"- Source: {source}." for source in sources]
    for tolerance, because in dict.fromkeys((row.tolerance, row.because) for row in rows if not row.server):
        lines.append(f"- {100 * tolerance:.1f} points: {because}.")
    told: dict[str, list[str]] = {}
    for row in rows:
        for text in (
            row.remark,
            row.server and f"scored by {row.server} alone; what is sent there is made by `{row.answers}`",
        ):
            if text:
                told.setdefault(text, []).append(f"`{row.name}`")
    return lines + [f"- {', '.join(names)}: {text}." for text, names in told.items()]
