"""Rows that could not be used: each costs itself and one line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from diptych.errors import UsageError

LONGEST = 300
"""Letters of a library's error that are repeated."""
LONGEST_VALUE = 40
"""Letters of a value that are repeated."""


@dataclass(frozen=True)
class Reject:
    """One row that was left out."""

    key: str
    """Of the row, or "" where it has none yet."""
    source: str
    """File, row or tar member that it came from."""
    reason: str
    """For people: what was found and what was expected."""

    def line(self) -> str:
        """As it stands in a file, with the end of the line."""
        return json.dumps(asdict(self)) + "\n"


def reason_of(key: str, error: Exception) -> str:
    """What an error says of a row without its key, which the reject tells, so that equal reasons are equal."""
    return str(error).removeprefix(f"{key}: ").replace(f" of {key!r}", "").removeprefix("the regions: ")


def in_words(error: Exception) -> str:
    """What an error says, in one line of text; its kind where that is none.

    Over damaged files libraries say nothing, repeat the bytes, or speak of their own code (TypeError, AttributeError).
    """
    said = f"there is no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else str(error)
    said = " ".join(said.split())
    clean = said.isprintable() and "\\x" not in said and 0 < len(said) <= LONGEST
    if not clean or isinstance(error, TypeError | AttributeError):
        return f"unreadable ({type(error).__name__})"
    return said


def shown(value: object) -> str:
    """A bad value for a message: as Python writes it, short, a question mark for what cannot be printed."""
    try:
        spelt = repr(value)
    except ValueError:  # of a whole number of thousands of digits
        return "a number of thousands of digits"
    clean = "".join(letter if letter.isprintable() and letter != "\\" else "?" for letter in spelt)
    return clean if len(clean) <= LONGEST_VALUE else f"{clean[:LONGEST_VALUE]}..."


def check_share(max_rejects: float, unit: str) -> None:
    """Refuses a share of bad `unit` that is none.

    Raises:
        UsageError: telling so.
    """
    if not 0 <= max_rejects <= 1:  # NaN is neither
        raise UsageError(f"--max-rejects is {max_rejects}; expected a share of the {unit} between 0 and 1, e.g. 0.05")


class RejectLog:
    """Appends rejects to a file of JSON lines. One that stands there already is not written twice."""

    def __init__(self, path: Path) -> None:
        """Goes on with the lines of an earlier, unfinished attempt."""
        self.path = path
        self._known = set(read_rejects(path)) if path.exists() else set()
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # a kill cut the last line short

    def __len__(self) -> int:
        return len(self._known)

    def add(self, reject: Reject) -> None:
        """Writes one line and hands it to the operating system."""
        if reject in self._known:
            return
        self._known.add(reject)
        self._file.write(reject.line())
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_rejects(path: Path) -> list[Reject]:
    """The rejects of a file; a last line that a kill cut short is left out."""
    rejects = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rejects.append(Reject(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return rejects
