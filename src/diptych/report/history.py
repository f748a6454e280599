"""History: what log.jsonl of a run says, read so that a torn last line or a killed run spoils nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class History:
    """The events of a run by kind, each step once: after a resume the later line counts."""

    start: Event
    """Empty where the run never got so far."""
    steps: Sequence[Event]
    evals: Sequence[Event]
    rejects: Sequence[Event]
    notes: Sequence[Event]
    end: Event | None
    """The last end event; None where the run was killed, or is still going."""

    @property
    def last_step(self) -> int:
        """The last step that the log knows of, be it only by its end; 0 where there is none."""
        events = [*self.steps, *self.evals, *([self.end] if self.end else [])]
        return max([int(event.get("step", 0)) for event in events], default=0)

    @property
    def seconds(self) -> float:
        """Time that training took, over all resumes, as far as it was logged."""
        events = [*self.steps, *self.evals, *([self.end] if self.end else [])]
        return max([float(event.get("time_s") or 0.0) for event in events], default=0.0)


def read_history(run_folder: Path) -> History:
    """The log of a run folder; empty where there is none. Lines that are no JSON are left out."""
    path = run_folder / "log.jsonl"
    events = [event for line in _lines(path) if (event := _event(line)) is not None]
    ends = [at for at, event in enumerate(events) if event["event"] == "end"]
    begins = [at for at, event in enumerate(events) if event["event"] in ("start", "step")]
    gone_on = bool(ends and begins and begins[-1] > ends[-1])
    return History(
        start=next((event for event in reversed(events) if event["event"] == "start"), {}),
        steps=_by_step(events, "step"),
        evals=_by_step(events, "eval"),
        rejects=[event for event in events if event["event"] == "reject"],
        notes=[event for event in events if event["event"] == "note"],
        end=None if not ends or gone_on else events[ends[-1]],
    )


def series(events: Sequence[Event], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one quantity, without the events that lack it or where it is not finite."""
    points = [(int(event["step"]), event.get(name)) for event in events]
    kept = [(step, float(value)) for step, value in points if isinstance(value, int | float) and math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _event(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None  # a kill tears the last line
    return event if isinstance(event, dict) and "event" in event else None


def _by_step(events: Sequence[Event], kind: str) -> list[Event]:
    """A resumed run logs the steps since its checkpoint again; the later line is the one that counts."""
    by_step: dict[tuple[int, str], Event] = {}
    for event in events:
        if event["event"] == kind and isinstance(event.get("step"), int):
            by_step[event["step"], str(event.get("split", ""))] = event
    return [by_step[at] for at in sorted(by_step)]
