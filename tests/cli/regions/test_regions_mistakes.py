"""`diptych regions`: every mistake in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

MISTAKES = [
    (["export", "DATA", "r", "--to", "lxmert"], 2, "there is no format 'lxmert'; did you mean 'lxmert-tsv'"),
    (["import", "nowhere", "r"], 1, "there is nothing at nowhere"),
    (["compare", "DATA", "DATA"], 1, "is a table, but no store of regions"),
    (["extract", "DATA", "--detector", "window:x", "--out", "r"], 2, "there is no detector 'window'; did you mean"),
    (["extract", "DATA", "--detector", "windows", "--out", "r"], 2, "the detector 'windows' says no weights"),
    (["extract", "DATA", "--detector", "windows:nowhere", "--out", "r"], 1, "there is no file or folder nowhere"),
    (["extract", "nowhere", "--detector", "windows:x", "--out", "r"], 1, "nowhere is no table"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--split", "tset"], 1, "did you mean 'test'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--boxes", "object"], 1, "did you mean 'objects'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--boxes", "texts"], 1, "expected a list of boxes"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--preset", "unitr"], 2, "did you mean 'uniter'"),
    (["extract", "DATA", "--detector", "windows:x", "--out", "r", "--max-rejects", "nan"], 2, "--max-rejects is nan"),
    (["extract", "DATA", "--tower", "x", "--out", "r", "--template", "a {}"], 2, "pass them: --words FILE"),
    (["show", "notes.json"], 1, "notes.json holds no regions: none of its first rows has a tab. Expected a store"),
    (["show", "DATA", "--data", "DATA", "--html", "."], 2, "'--html': file '.' is a directory"),
    (["show", "DATA", "--json", "."], 2, "'--json': file '.' is a directory"),
    (["show", "DATA"], 1, "is a table, but no store of regions"),
    (["show", "DATA", "--html", "x.html"], 2, "name their table too: --data DATA"),
    (["shwo"], 2, "did you mean 'show'"),
]


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_told_in_one_line(
    words: list[str],
    code: int,
    message: str,
    run: Command,
    tmp_path: Path,
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.json").write_text('{\n "a": 1,\n "b": {\n }\n}\n', encoding="utf-8")
    found, told, said = run(*[str(scenes) if word == "DATA" else word for word in words])
    assert found == code and message in said, said
    assert said.startswith("Error: ") and "Traceback" not in said and told == ""
