"""Pictures of a table with their texts on one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.data.durable import write_whole
from diptych.data.examples import ANSWERS, OPTIONS
from diptych.data.images import decode, to_rgb
from diptych.data.sample import Sample
from diptych.data.show import describe, even_rows, label_name
from diptych.data.table import PICTURE_KEY, Rows, Table
from diptych.errors import DataError

SIDE = 192
"""Longest side of a picture on the page, in pixels."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Browsers then load nothing from anywhere, whatever a text in the page says."""

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { font-weight: 600; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p { opacity: .8; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0; }
th { font-weight: 600; } tr + tr { border-top: 1px solid #8884; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1.2rem 1rem; }
figure { margin: 0; }
figure div { height: 11rem; display: flex; align-items: end; justify-content: center; }
figure div { background: #8881; border-radius: .4rem; overflow: hidden; }
figure img { max-width: 100%; max-height: 100%; }
figcaption { font-size: .84rem; margin-top: .35rem; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; } figcaption small { display: block; opacity: .65; }
.none { align-self: center; padding: 1rem; font-size: .84rem; opacity: .7; }
"""


def contact_sheet(table: Table, file: Path, *, num: int = 48) -> None:
    """Writes `contact_sheet_html` to `file`, making its folder."""
    page = contact_sheet_html(table, num=num)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, page.encode())


def contact_sheet_html(table: Table, *, num: int = 48) -> str:
    """One page with counts, and `num` rows of each split, evenly spread: the same ones every time."""
    counts = describe(table).tables()[0]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in counts.columns)
    lines = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in counts.rows
    )
    names = table.meta.get("label_names", ())
    sheets = "".join(_sheet(table.split(name), num, names) for name in table.splits)
    title = f"{table.path.resolve().name}: what the table holds"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>{escape(counts.title)}</p><table><tr>{head}</tr>{lines}</table>{sheets}</body></html>\n"
    )


def _sheet(rows: Rows, num: int, label_names: Sequence[str]) -> str:
    shown = even_rows(len(rows), num)
    if "image" not in rows.columns:
        return ""
    said = f"{len(shown)} of {len(rows):,} rows, evenly spread." if len(shown) < len(rows) else "All rows."
    head = f"<h2>{escape(rows.name)}</h2><p>{said}"
    if not rows.num_pictures:
        return f"{head} They hold no pictures; regions of these are joined by key.</p>{_texts(rows, shown)}"
    figures = "".join(_figure(rows.sample(row), label_names) for row in shown)
    return f'{head}</p><div class="sheet">{figures}</div>'


def _texts(rows: Rows, shown: Sequence[int]) -> str:
    """Rows without pictures, line by line; of examples, what they are about and what is answered."""
    own = [name for name in (PICTURE_KEY, ANSWERS, OPTIONS) if name in rows.columns]
    head = "".join(f'<th scope="col">{escape(name.replace("_", " "))}</th>' for name in ("key", "texts", *own))
    lines = []
    for row in shown:
        sample = rows.sample(row, own)
        cells = [sample.key, sample.texts, *(sample.fields[name] for name in own)]
        lines.append(f"<tr>{''.join(f'<td>{_lines(cell)}</td>' for cell in cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _lines(value: str | Sequence[str | Mapping[str, Any]] | None) -> str:
    """One text, several, or answers that are worth something each."""
    values = [value] if isinstance(value, str) else value or ()
    return "<br>".join(escape(one if isinstance(one, str) else one["text"]) for one in values)


def _figure(sample: Sample, label_names: Sequence[str]) -> str:
    label = [] if sample.label is None else [f"<b>{escape(label_name(sample.label, label_names))}</b>"]
    words = "<br>".join([*label, *(escape(text) for text in sample.texts)])
    caption = f"<figcaption>{words} <small>{escape(sample.key)}</small></figcaption>"
    return f"<figure><div>{_picture(sample)}</div>{caption}</figure>"


def _picture(sample: Sample) -> str:
    """The picture as a data URI, or in words why there is none."""
    if sample.image is None:
        return '<span class="none">no picture</span>'
    try:
        picture = to_rgb(decode(sample.image, size_hint=SIDE))
    except DataError as error:
        return f'<span class="none">{escape(str(error))}</span>'
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    alt = escape(sample.texts[0] if sample.texts else sample.key)
    return f'<img loading="lazy" alt="{alt}" src="data:image/{_encoded(picture)}">'


def _encoded(picture: Image.Image) -> str:
    """As PNG or JPEG, whichever is smaller."""
    files = {}
    for format_ in ("png", "jpeg"):
        file = io.BytesIO()
        picture.save(file, format_, quality=85)
        files[format_] = file.getvalue()
    best = min(files, key=lambda format_: len(files[format_]))
    return f"{best};base64,{base64.b64encode(files[best]).decode()}"
