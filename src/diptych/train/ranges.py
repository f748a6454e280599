"""Which values a setting may have, beyond its type."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diptych.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Values that are sensible, and how to say so."""

    words: str
    holds: Callable[[Any], bool]


COUNT = Range("a whole number from 1", lambda value: value >= 1)
COUNTS = Range("whole numbers from 1", lambda values: len(values) > 0 and min(values) >= 1)
COUNT_OR_AUTO = Range("a whole number from 1, auto or none", lambda value: value == "auto" or value >= 1)
NOT_NEGATIVE = Range("a number from 0", lambda value: 0 <= value < math.inf)
POSITIVE = Range("a number above 0", lambda value: 0 < value < math.inf)
SHARE = Range("a share from 0 to 1", lambda value: 0 <= value <= 1)
DECAY = Range("a number from 0 and below 1", lambda value: 0 <= value < 1)
DECAYS = Range("two numbers from 0 and below 1", lambda pair: all(0 <= value < 1 for value in pair))
SHARES = Range("two shares above 0 and up to 1, the smaller first", lambda pair: 0 < pair[0] <= pair[1] <= 1)
ENLARGEMENT = Range("a number from 1", lambda value: 1 <= value < math.inf)
SEED = Range("a whole number from 0 and below 2^63", lambda value: 0 <= value < 2**63)


def check_ranges(group: str, settings: Any, **ranges: Range) -> None:
    """Checks fields of a dataclass; None, where a field may be None, is always fine.

    Raises:
        UsageError: a value is outside; names the field by `group`, what was found and what is expected.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value is not None and not allowed.holds(value):  # NaN is in no range
            found = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise UsageError(f"{group}.{name} is {found}; expected {allowed.words}")
