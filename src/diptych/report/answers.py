"""Answers: pictures with what the model took them for, beside what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from diptych.report.page import Section, note
from diptych.report.pictures import Picture, image_tag


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One picture and what was said of it."""

    picture: Picture
    taken: str
    """What the model chose, in words."""
    right: str
    """What is true."""
    is_right: bool
    remark: str = ""
    """A few words more, e.g. how sure it was."""


def answers_section(title: str, how_to_read: str, answers: Sequence[Answer], *, none: str) -> Section:
    """Cards with the picture, a tick and what is right, or a cross, what was taken, and what is right.

    Args:
        title: of the section.
        how_to_read: which answers these are, and how they were drawn.
        answers: in the order in which they are shown.
        none: said where there are none.
    """
    if not answers:
        return Section(title=title, how_to_read=how_to_read, body=note(none))
    cards = "".join(f"<li>{_card(answer)}</li>" for answer in answers)
    return Section(title=title, how_to_read=how_to_read, body=f'<ol class="row">{cards}</ol>')


def _card(answer: Answer) -> str:
    verdict = "right" if answer.is_right else "wrong"
    image = image_tag(answer.picture, alt=f"{verdict}: taken for “{answer.taken}”, is “{answer.right}”")
    tick = "✓" if answer.is_right else "✗"
    lines = [f'<small><span class="mark-{verdict}">{tick} {escape(answer.taken)}</span></small>']
    if not answer.is_right:
        lines.append(f"<small>is: {escape(answer.right)}</small>")
    if answer.remark:
        lines.append(f"<small>{escape(answer.remark)}</small>")
    return image + "".join(lines)
