"""Small pictures for the page, as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from diptych.data.images import decode
from diptych.errors import DataError

SIDE_PX = 168
"""Longer side of a thumbnail; some 150 of them stay well under the size limit of a page."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a table, undecoded, and what to call it."""

    key: str
    source: bytes | Path | Image.Image | None


def data_uri(picture: Image.Image, side_px: int = SIDE_PX) -> str:
    """The picture, at most `side_px` long, as a WebP data URI; smaller ones keep their size."""
    small = picture.convert("RGB")
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def opened(picture: Picture) -> Image.Image:
    """The decoded picture.

    Raises:
        DataError: it cannot be read, or the row has none.
    """
    if picture.source is None:
        raise DataError(f"the row {picture.key!r} has no picture")
    return picture.source if isinstance(picture.source, Image.Image) else decode(picture.source, size_hint=SIDE_PX)


def image_tag(picture: Picture, *, alt: str) -> str:
    """The thumbnail as an <img>; a picture that cannot be read says so in its place."""
    try:
        source = data_uri(opened(picture))
    except DataError as error:
        return f'<p class="thumb note">{escape(str(error))}</p>'
    return f'<img class="thumb" src="{source}" alt="{escape(alt)}" title="{escape(picture.key)}" loading="lazy">'
