"""The map in docs/design.md, held against the code: import directions, prints, size, what loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "diptych"
ROOMS = ("clip", "uniter", "detector")
CHAIN = (
    "cli", "systems", "rooms", "train", "tasks", "search", "prepare", "objectives", "report", "metrics", "checkpoint",
    "nn", "data", "overrides", "ranks", "progress", "errors",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def floor_of(module: str) -> str:
    """ "diptych.clip.model" -> "rooms"."""
    part = module.split(".")[1] if "." in module else ""
    return "rooms" if part in ROOMS else "cli" if part == "__main__" else part


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("diptych"))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "diptych":
                yield from (f"diptych.{alias.name}" for alias in node.names if alias.name != "__version__")
            elif node.module is not None and node.module.startswith("diptych."):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (module if module in MODULES else node.module for module in modules)


MODULES = {module_name(path) for path in FILES}


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not within functions either, except from the front door."""
    circles = TopologicalSorter(
        {module_name(path): set(imported(path)) for path in FILES if module_name(path) != "diptych"}
    )
    circles.prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_rightwards(path: Path) -> None:
    own = module_name(path)
    if own == "diptych":
        return  # the front door imports late, inside its functions
    for target in imported(path):
        mine, theirs = floor_of(own), floor_of(target)
        if mine == theirs:
            assert mine != "rooms" or own.split(".")[1] == target.split(".")[1], f"{own} imports another room: {target}"
            continue
        assert CHAIN.index(mine) < CHAIN.index(theirs), f"{own} imports leftwards: {target}"


def test_every_floor_is_in_the_chain() -> None:
    for path in FILES:
        floor = floor_of(module_name(path))
        assert floor == "" or floor in CHAIN, path


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if floor_of(module_name(path)) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "input"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("sys", "exit"), f"{path}:{node.lineno}"


def test_file_names_say_what_is_inside() -> None:
    for path in FILES:
        assert path.stem not in ("utils", "helpers", "common", "misc", "manager"), path


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {
    "torch", "torchvision", "datasets", "pyarrow", "numpy", "matplotlib", "sklearn", "PIL", "tokenizers",
    "transformers",
}  # fmt: skip


@pytest.mark.parametrize("statement", ["import diptych", "import diptych.cli.main"])
def test_starting_up_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement) & HEAVY


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--help"], "Train vision-and-language models"), (["plan", "--help"], "Say by formula what a recipe takes")],
)
def test_help_loads_nothing_heavy(words: list[str], said: str) -> None:
    run = f"from diptych.cli.main import main\ntry:\n    main({words})\nexcept SystemExit: pass\n"
    code = f"{run}import sys; print('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert not set(done.stdout.partition("LOADED")[2].split()) & HEAVY
