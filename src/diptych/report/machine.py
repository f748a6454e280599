"""What was run on what machine, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.overrides import flat
from diptych.progress import spoken_time
from diptych.report.history import History
from diptych.report.page import note
from diptych.report.tables import facts, folded, table

MOST_REJECTS = 50


def run_facts(log: History, run: Mapping[str, Any]) -> str:
    """What the start event says of the machine, and every setting of the run."""
    start = log.start
    machine = said(_mapping(start, "machine")) + said(_mapping(start, "versions"))
    work = [
        ("recipe", " ".join(str(run[name]) for name in ("system", "recipe") if name in run)),
        *_mixed(start),
        *[(words, _value(start[name])) for name, words in _WORK.items() if name in start],
        ("time trained", spoken_time(log.seconds)),
    ]
    parts = [facts([pair for pair in work if pair[1]], caption="The run")]
    if machine:
        parts.append(facts(machine, caption="The machine"))
    else:
        parts.append(note("The log does not say on what machine the run began: it ended before that was written."))
    if run:
        parts.append(folded("Every setting", facts(said(run), caption="run.json")))
    if log.notes:
        told = [(f"step {event.get('step', 0)}", str(event.get("text", ""))) for event in log.notes]
        parts.append(folded(f"Notes of the log ({len(told)})", facts(told[-MOST_REJECTS:], caption="Notes")))
    return "".join(parts)


def _mixed(start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each of several tables, with its rows and its share of the steps."""
    tables = [one for one in start.get("mixed", ()) if isinstance(one, Mapping)]
    steps = sum(int(one.get("share", 0)) for one in tables)
    return [
        (f"table {number}", f"{one.get('table')}, {_value(one.get('rows'))} rows, {one.get('share')} of {steps} steps")
        for number, one in enumerate(tables, start=1)
    ]


def rejects_table(rejects: Sequence[tuple[str, str]]) -> str:
    """What was left out, by reason, then row by row.

    Args:
        rejects: key and reason of each.
    """
    if not rejects:
        return note("Nothing: every row that was asked for could be read.")
    reasons = Counter(reason for _, reason in rejects)
    rows = [(reason, f"{count:,}") for reason, count in reasons.most_common(20)]
    listed = [(key, reason) for key, reason in rejects[:MOST_REJECTS]]
    more = f", the first {MOST_REJECTS} of {len(rejects):,}" if len(rejects) > MOST_REJECTS else ""
    by_row = table(("row", "reason"), listed, caption=f"Rows left out{more}")
    return table(("reason", "rows"), rows, caption="Reasons") + folded("Row by row", by_row)


def said(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values on one level, in words."""
    return [(name, _value(value)) for name, value in flat(values).items()]


_WORK = {
    "parameters": "parameters",
    "rows": "rows to train on",
    "batch": "batch",
    "steps": "steps planned",
    "precision": "precision",
    "precision_reason": "why this precision",
}


def _mapping(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(_value(part) for part in value)
        case _:
            return str(value)
