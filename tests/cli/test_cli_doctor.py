"""`diptych doctor`: its rows, the same as JSON, and advice where something is wrong."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.cli import doctor

GIB = 2**30


def test_the_page_and_the_json_say_the_same(
    exit_code: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that no row is broken
    file = tmp_path / "new" / "doctor.json"
    assert exit_code("doctor", "--json", file) == 0
    shown = capsys.readouterr().out
    findings = json.loads(file.read_text())["findings"]
    assert {"Python", "torch", "pair", "--device auto", "CPU", "precision=auto", "memory", "disk"} <= {
        finding["name"] for finding in findings
    }
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for finding in findings:
        assert " ".join(f"{finding['name']} {finding['found']}".split()) in rows
        assert not finding["advice"] or f"- {finding['name']}: {finding['advice']}" in rows
    assert shown.endswith("Next: diptych demo\n")


def test_a_package_that_is_not_there_is_named(
    exit_code: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert exit_code("doctor") == 0
    assert "- torchvision: install it: pip install torchvision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("torch", "vision", "found", "advice"),
    [
        ("2.9.1+cpu", "0.24.1", "belong together", ""),
        ("2.10.0", "0.24.0", "does not belong to torch 2.10", "'torchvision==0.25.*'"),
        ("9.9.0", "0.24.0", "not a pair this version of diptych knows", ""),
        (None, "0.24.0", "needed both", ""),
    ],
)
def test_a_wrong_pair_gets_the_pip_line(torch: str | None, vision: str, found: str, advice: str) -> None:
    finding = doctor.pair(torch, vision)
    assert found in finding.found
    assert advice in finding.advice and bool(advice) == bool(finding.advice)


def test_memory_is_what_the_container_may_have(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    assert doctor.memory(meminfo, tmp_path).found.endswith("GiB in all")
    meminfo.write_text(f"MemTotal: {90 * 2**20} kB\nMemAvailable: {64 * 2**20} kB\n")
    assert doctor.memory(meminfo, tmp_path) == doctor.Finding("memory", "64.0 GiB available")
    (tmp_path / "memory.current").write_text(f"{5 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {2 * GIB}\ninactive_file {GIB}\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.memory(meminfo, tmp_path).found == "64.0 GiB available"
    (tmp_path / "memory.max").write_text(f"{6 * GIB}\n")
    limited = doctor.memory(meminfo, tmp_path)
    assert limited.found == "2.0 GiB left of what this container may have" and "--memory" in limited.advice
    meminfo.write_text(f"MemAvailable: {2**20} kB\n")
    assert doctor.memory(meminfo, tmp_path).found == "1.0 GiB available"
