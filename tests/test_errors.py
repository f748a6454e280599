from __future__ import annotations

from pathlib import Path

import pytest

from diptych.errors import MissingExtraError, nearest, neighbour, require_extra, unknown


def test_nearest_finds_a_slip_of_the_finger_and_not_just_anything() -> None:
    assert nearest("tinny", ["tiny", "vit_b_32"]) == "tiny"
    assert nearest("TINY", ["tiny", "vit_b_32"]) == "tiny"
    assert nearest("qqq", ["tiny", "vit_b_32"]) is None


def test_unknown_says_found_expected_and_what_to_do() -> None:
    message = unknown("recipe", "tinny", ["tiny", "vit_b_32"])
    assert message == "there is no recipe 'tinny'; did you mean 'tiny'? There are: tiny, vit_b_32"
    assert unknown("split", "x", []) == "there is no split 'x'. There are: none"


def test_a_missing_extra_names_the_pip_line() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[track\]'"):
        require_extra("no_such_module_anywhere", "track", "TensorBoard logging")
    require_extra("json", "track", "anything")  # installed: no error


def test_a_path_that_is_not_there_has_a_neighbour_or_none(tmp_path: Path) -> None:
    (tmp_path / "flickr8k").mkdir()
    assert neighbour(tmp_path / "flicker8k") == f"; did you mean {tmp_path / 'flickr8k'}?"
    assert neighbour(tmp_path / "coco") == neighbour(tmp_path / "gone" / "flickr8k") == ""
