"""Sizes of memory as people type them."""

from __future__ import annotations

import re

from diptych.errors import UsageError

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def size_of(text: str, option: str) -> int:
    """Bytes of "80GB" (80 x 1000³) or "24GiB" (24 x 1024³).

    Args:
        text: as typed.
        option: what it was typed for.
    Raises:
        UsageError: it is no number with one of the units, or nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip())
    size = 0 if found is None else round(float(found[1]) * UNITS.get(found[2], 0))
    if size == 0:
        raise UsageError(
            f"{option} is {text!r}; expected a number above 0 and a unit, e.g. 80GB or 24GiB. Units: {', '.join(UNITS)}"
        )
    return size
