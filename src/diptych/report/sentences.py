"""Sentences that a person would say: the headline, and how a run ended."""

from __future__ import annotations

from diptych.report.history import History

STATUS = {
    "finished": "The run finished",
    "interrupted": "The run was stopped by hand",
    "nan": "The run ended because the loss was no longer a finite number",
    "failed": "The run failed",
    "unfinished": "The run has not ended: it is still going, or was killed",
}


def retrieval_headline(r1: float, pictures: int, *, began_at: float | None, chance: float) -> str:
    """R@1 as a sentence.

    Args:
        r1: share of texts whose right picture comes first.
        pictures: how many it was chosen among.
        began_at: the same share before training on the same rows, where known.
        chance: what guessing gets.

    >>> retrieval_headline(0.412, 500, began_at=0.0, chance=0.002)
    'The right picture, of 500, comes first for 41 of 100 texts; it began at 0'
    """
    before = f"it began at {of_100(began_at)}" if began_at is not None else f"guessing gets {of_100(chance)}"
    return f"The right picture, of {pictures:,}, comes first for {of_100(r1)} of 100 texts; {before}"


def matching_headline(right: int, count: int) -> str:
    """What a text and two pictures say of a model."""
    return f"Of two pictures, {of_100(right / count)} of 100 texts fit their own better; guessing gets 50"


def loss_headline(log: History, losses: list[float]) -> str:
    """What there is to say where nothing was evaluated."""
    if not losses:
        return "This run ended before its first step was logged"
    chance = log.start.get("chance_loss")
    beside = f"; guessing gives {chance:.2f}" if isinstance(chance, int | float) else ""
    return f"The loss went from {losses[0]:.2f} to {losses[-1]:.2f} in {log.last_step:,} steps{beside}"


def status_line(status: str, log: History) -> str:
    """How and where the run ended."""
    planned = log.start.get("steps")
    where = f"at step {log.last_step:,}" + (f" of {planned:,}" if isinstance(planned, int) else "")
    reason = (log.end or {}).get("text")
    why = f": {reason}" if reason and status not in ("finished", "unfinished") else "."
    return f"{STATUS.get(status, f'The run ended as {status!r}')}, {where}{why}"


def of_100(share: float) -> str:
    """A share as a count of 100, without rounding the rare to never or the frequent to always.

    >>> of_100(0.0), of_100(0.002), of_100(0.41), of_100(0.998), of_100(1.0)
    ('0', 'fewer than 1', '41', 'more than 99', '100')
    """
    if 0 < share < 0.005:
        return "fewer than 1"
    if 0.995 < share < 1:
        return "more than 99"
    return f"{100 * share:.0f}"
