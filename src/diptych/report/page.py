"""The report as one self-contained HTML page: a headline, sections, no script, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Browsers then load nothing from anywhere, whatever a text in the page says."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report."""

    title: str
    how_to_read: str
    """A sentence or two in plain words, shown under the title."""
    body: str
    """HTML, made by the other modules of this floor."""

    @property
    def anchor(self) -> str:
        """Its id in the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def missing(title: str, how_to_read: str, reason: str) -> Section:
    """A section that could not be made: it says so, where a blank would leave the reader wondering."""
    return Section(title=title, how_to_read=how_to_read, body=note(f"Not shown: {reason}"))


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    kicker: str
    """A few words above the headline: what kind of page, of which run."""
    headline: str
    """The first line: a sentence that a person would say."""
    lead: Sequence[str] = ()
    """The lines after it: how the run ended, what to know before reading on."""
    figures: Sequence[tuple[str, str]] = ()
    """A few large numbers: (value, what it is)."""
    sections: Sequence[Section] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    style = files("diptych.report").joinpath("style.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(page.headline)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            _header(page),
            _contents(page.sections),
            "<main>",
            *[_section(section) for section in page.sections],
            "</main>\n</body>\n</html>\n",
        ]
    )


def note(text: str) -> str:
    """A remark in a quiet box."""
    return f'<p class="note">{escape(text)}</p>'


def paragraphs(*texts: str) -> str:
    """Plain paragraphs."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def _header(page: Page) -> str:
    lead = "".join(f'<p class="lead">{escape(line)}</p>' for line in page.lead)
    figures = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(what)}</dt></div>" for value, what in page.figures)
    return (
        f'<header>\n<p class="kicker">{escape(page.kicker)}</p>\n<h1>{escape(page.headline)}</h1>\n{lead}\n'
        + (f'<dl class="figures">{figures}</dl>\n' if figures else "")
        + "</header>"
    )


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in sections)
    return f'<nav aria-label="Parts of this report"><ol>{links}</ol></nav>'


def _section(section: Section) -> str:
    return (
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-title">\n'
        f'<h2 id="{section.anchor}-title">{escape(section.title)}</h2>\n'
        f'<p class="how">{escape(section.how_to_read)}</p>\n{section.body}\n</section>'
    )
