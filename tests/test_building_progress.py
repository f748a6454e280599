"""Building a run's objects tells how far the training of its tokenizer is."""

from __future__ import annotations

import pytest

from diptych import systems
from diptych.progress import Silent, SilentBar
from diptych.systems import building


class Counting(Silent):
    """Adds up what each bar was told."""

    def __init__(self) -> None:
        self.done: dict[str, float] = {}

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        self.done[name] = done
        return _CountingBar(self.done, name)


class _CountingBar(SilentBar):
    def __init__(self, done: dict[str, float], name: str) -> None:
        self._done, self._name = done, name

    def advance(self, num: float = 1, note: str = "") -> None:
        self._done[self._name] += num


def test_every_text_that_a_tokenizer_is_trained_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "TEXTS_A_TURN", 4)
    told = Counting()
    texts = [f"a red square and {number} rings" for number in range(11)]
    systems.build(systems.recipe("clip", "tiny"), texts=texts, progress=told)
    assert told.done == {"training the tokenizer": 11}
