"""Large JSON files read element by element, so that memory does not grow with them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.record import MAX_TEXT_BYTES
from diptych.errors import DataError

CHUNK = 1 << 20
SPACE = " \t\r\n"
ENDS = ",:]}" + SPACE
"""What may stand right behind a value."""


def top_level(file: Path) -> Iterator[tuple[str, Any]]:
    """The parts of a JSON file one level down.

    Yields:
        (name, value) for each entry of the object that the file holds; where the value is a list, (name, element) for
        each of its elements instead. The name is "" where the file holds a list.

    Raises:
        DataError: the file is no JSON, is cut short, or has an element of more than 64 MiB.
    """
    with file.open("rb") as raw:
        text = _Text(file, raw)
        first = text.peek()
        if first == "[":
            yield from (("", value) for value in text.elements())
            return
        if first != "{":
            raise text.error("a JSON object or list was expected")
        text.skip("{")
        while text.peek() != "}":
            name = text.value()
            text.skip(":")
            if text.peek() == "[":
                yield from ((name, value) for value in text.elements())
            else:
                yield name, text.value()
            if text.peek() == ",":
                text.skip(",")


class _Text:
    """A window on the file that moves forward."""

    def __init__(self, file: Path, raw: Any) -> None:
        self._file = file
        self._raw = raw
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder()
        self._window = ""
        self._at = 0

    def error(self, why: str) -> DataError:
        return DataError(f"{self._file} cannot be read to its end: {why}")

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more():
                raise self.error("it ends too early")

    def skip(self, mark: str) -> None:
        if self.peek() != mark:
            raise self.error(f"expected {mark!r}, found {self.peek()!r}")
        self._at += 1

    def elements(self) -> Iterator[Any]:
        """The elements of the list that begins here."""
        self.skip("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.skip(",")
        self.skip("]")

    def value(self) -> Any:
        """The value that begins here, with the mark behind it in the window, so that no number is cut."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._at)
                if end < len(self._window) and self._window[end] in ENDS:
                    self._at = end
                    return value
                wrong = "a value is broken or the file ends too early"
            except json.JSONDecodeError as error:
                wrong = error.msg
            except RecursionError as error:
                raise self.error("it is nested too deep") from error
            if len(self._window) - self._at > MAX_TEXT_BYTES:
                raise self.error(f"an element is broken or larger than {MAX_TEXT_BYTES >> 20} MiB ({wrong})")
            if not self._more():
                raise self.error(wrong)

    def _more(self) -> bool:
        """Reads on, at least doubling what is not used up, so that a long element is not parsed too often."""
        rest = self._window[self._at :]
        data = self._raw.read(max(CHUNK, len(rest)))
        try:
            self._window, self._at = rest + self._bytes.decode(data, final=not data), 0
        except UnicodeDecodeError as error:
            raise self.error(f"it is not UTF-8 ({error.reason})") from error
        return bool(data)
