from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.formats import json_stream
from diptych.data.formats.json_stream import top_level
from diptych.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def parts(content: dict[str, object]) -> list[tuple[str, object]]:
    """What `top_level` should give, from the whole content."""
    return [(name, part) for name, value in content.items() for part in (value if isinstance(value, list) else [value])]


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.text(max_size=3), VALUES, max_size=4), indent=st.sampled_from([None, 1]))
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_read_in_pieces_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, content: dict, indent: int
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8", errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        assert list(top_level(file)) == parts(json.loads(file.read_text(encoding="utf-8")))


def test_a_list_has_no_names(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf[12, {}]")
    assert list(top_level(file)) == [("", 12), ("", {})]


@pytest.mark.parametrize(
    "text", [b"", b"nothing", b'{"a": [1, 2', b'{"a": 1', b'{"a" 1}', b'{"a": [1 2]}', b'["\xff"]', b"[" * 100_000]
)
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "broken.json"
    file.write_bytes(text)
    with pytest.raises(DataError, match=r"broken\.json"):
        list(top_level(file))
