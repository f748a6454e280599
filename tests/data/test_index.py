"""The set of keys on disk is a set."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.index import KeySet


@settings(deadline=None)
@given(keys=st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=60))
def test_it_agrees_with_pythons_set(keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    ours, theirs = KeySet(tmp_path_factory.getbasetemp(), capacity=4), set[str]()
    for key in keys:
        assert (key in ours) == (key in theirs)
        assert ours.add(key) == (key not in theirs)
        theirs.add(key)
        assert len(ours) == len(theirs)
    assert all(key in ours for key in theirs)


def test_it_leaves_no_file(tmp_path: Path) -> None:
    keys = KeySet(tmp_path)
    keys.add("a")
    assert list(tmp_path.iterdir()) == []
