"""Numbers and texts as files of others spell them: taken, or told by name with what was found and what was expected."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from diptych.data.region_checks import INT32_MAX
from diptych.data.rejects import shown

_DIGITS = re.compile(rb"[0-9]{1,10}")


def count(name: str, cell: bytes) -> int:
    """The whole number in a column.

    Raises:
        ValueError: it is none, or none that a count or a side of a picture can be.
    """
    if not _DIGITS.fullmatch(cell) or int(cell) > INT32_MAX:
        raise ValueError(f"{name} is {shown(cell.decode(errors='replace'))}; expected a whole number")
    return int(cell)


def number(name: str, value: Any) -> float:
    """A number in JSON, also in quotes.

    Raises:
        ValueError: it is none, or infinite or NaN.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{name} is {shown(value)}; expected a number")
    return found


def text(name: str, value: Any) -> str:
    """A text in JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; expected a text")
    return value


def items(name: str, value: Any) -> list[Any]:
    """A list in JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, list):
        raise ValueError(f"{name} is {shown(value)}; expected a list")
    return value


def parsed(name: str, cell: bytes) -> Any:
    """What a column of JSON says.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(cell)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON") from error
