"""Pickles of lists and texts: these come out, everything else ends the reading before it is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from diptych.data.plain_pickle import read_plain_pickle
from diptych.errors import DataError

REFS = [{"ref_id": 7, "sent_ids": [1, 2], "big": 1 << 40, "sentences": [{"sent": "the säck", "raw": None}], "x": 0.5}]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_things_come_out_as_they_are(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([*REFS, (True, None)], protocol=protocol))
    assert read_plain_pickle(tmp_path / "refs.p") == [*REFS, (True, None)]


def test_texts_that_python_2_wrote_as_bytes(tmp_path: Path) -> None:
    said = "säck".encode()
    (tmp_path / "refs.p").write_bytes(
        b"\x80\x02]q\x01}q\x02(U\x05splitq\x03U\x03valU\x04sentU" + bytes([len(said)]) + said + b"K\x05L12L\nua."
    )
    assert read_plain_pickle(tmp_path / "refs.p") == [{"split": "val", "sent": "säck", 5: 12}]


class Malicious:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('the file was run')",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([Malicious()], protocol=protocol))
    with pytest.raises(DataError, match=r"refs\.p: the pickle asks for (__builtin__|builtins)\.exec; expected lists"):
        read_plain_pickle(tmp_path / "refs.p")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", pickle.dumps(REFS)[:-3], b"no pickle", b"\x82\x01.", b"P1\n.", b"cos\nsystem\n."]
)
def test_damage_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(DataError, match=r"refs\.p"):
        read_plain_pickle(tmp_path / "refs.p")
