"""What the pages tell people to type works as it stands there: README and docs, block after block."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from PIL import Image
from typer.core import TyperGroup

from diptych.cli.main import app
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
SKIPPED = {
    "make demo": "installs diptych; what it runs then is `diptych demo`",
    "pip install -c constraints.txt .": "is how these tests came to run",
}
"""Lines of bash that no test runs, and why."""
INSTEAD = {"diptych demo": "diptych demo --quick --device cpu --out runs/demo"}
"""Lines that take minutes, and their short form, which is run for the README alone."""
NEEDS = {
    "README.md": ("my_pictures",),
    "docs/quickstart.md": ("my_pictures",),
    "docs/data.md": ("flickr", "4711.jpg"),
    "docs/examples.md": ("scenes",),
    "docs/training.md": ("scenes",),
    "docs/tasks.md": ("scenes", "runs/first"),
    "docs/report.md": ("scenes", "runs/demo"),
    "docs/region_files.md": (),
    "docs/scenes.md": (),
    "docs/regions.md": ("scenes", "runs/first", "runs/own", "street.jpg"),
}
"""What must lie in the folder before a page's first block."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, one.start()) + 2, one[1], one[2]) for one in fenced]


@pytest.fixture(scope="module")
def prepared(exit_code: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that pages speak of: pictures, tables and runs."""
    folder = tmp_path_factory.mktemp("prepared")
    draw_scenes(folder / "scenes", easy(num=200, size_px=48), workers=1)
    put_pictures(folder / "my_pictures", folder / "scenes")
    with TableWriter(folder / "flickr") as writer:
        writer.add("train", key="1000268201.jpg", image=jpeg(), texts=["A child in a pink dress ."], label=0)
    for name in ("4711.jpg", "street.jpg"):
        (folder / name).write_bytes(jpeg())
    few = ["--set", "training.steps=2", "--set", "inputs.workers=0", "--device", "cpu"]
    for name, system in (("runs/first", "clip"), ("runs/demo", "clip"), ("runs/own", "detector")):
        words = ["train", system, "tiny", "--data", str(folder / "scenes"), "--out", str(folder / name)]
        assert exit_code(*words, *few) == 0
    return folder


@pytest.fixture
def place(request: pytest.FixtureRequest, prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with what the page needs, which is the working folder."""
    for name in NEEDS[request.getfixturevalue("page")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (prepared / name).is_dir() else shutil.copy
        copy(prepared / name, tmp_path / name)
    with chdir(tmp_path):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", NEEDS)
def test_every_block_runs_as_it_stands(
    exit_code: Callable[..., int], page: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "bash":
            for line in block.text.splitlines():
                if page == "README.md" or line not in INSTEAD:
                    run_line(exit_code, line, f"{page}:{block.line}")
        if block.language == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(block.text, f"{page}:{block.line}", "exec"), names)


def run_line(exit_code: Callable[..., int], line: str, where: str) -> None:
    """One line of bash: a command of ours, or one that is known not to be run here."""
    if line in SKIPPED:
        return
    words = shlex.split(INSTEAD.get(line, line), comments=True)
    assert words[:1] == ["diptych"], f"{where}: {line} is no command of ours; say in SKIPPED why no test runs it"
    assert exit_code(*words[1:]) == 0, f"{where}: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_options_that_pages_show_are_there(page: str) -> None:
    """Also of commands that no test runs, in blocks without a language and behind a prompt."""
    for block in blocks(page):
        for line in (line.removeprefix("$ ") for line in block.text.splitlines()):
            if block.language in ("", "bash", "console") and line.startswith("diptych "):
                assert unknown_options(shlex.split(line, comments=True)[1:]) == [], f"{page}:{block.line}: {line}"


def unknown_options(words: list[str]) -> list[str]:
    """The words that look like options and are none of the command that the first words name."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        command = command.commands[words[0]]
        words = words[1:]
    options = {name for param in command.params for name in param.opts}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]


def test_no_page_with_commands_or_code_is_left_out() -> None:
    with_code = [page for page in PAGES if any(one.language in ("bash", "python") for one in blocks(page))]
    assert sorted(NEEDS) == with_code


@pytest.mark.parametrize("page", PAGES)
def test_json_is_json_and_links_lead_somewhere(page: str) -> None:
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#")):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_are_there(page: str) -> None:
    """`tests/train/test_caching.py`, `docs/data.md`, `examples/outside_recipe.py` and so on."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|docs|examples|benchmarks|src)/[\w./]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{page}: {name}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(out, "JPEG")
    return out.getvalue()


def put_pictures(folder: Path, scenes: Path) -> None:
    """Scenes as somebody's own pictures: PNG files and a metadata.jsonl as README and quickstart show it."""
    (folder / "images").mkdir(parents=True)
    (shown,) = {
        one.text for page in ("README.md", "docs/quickstart.md") for one in blocks(page) if one.language == "json"
    }
    table, lines = open_table(scenes), []
    for split in ("train", "validation", "test"):
        rows = table.split(split)
        for sample in (rows.sample(row) for row in range(min(len(rows), 60))):
            assert isinstance(sample.image, bytes)
            name = f"images/{sample.key.replace('/', '-')}.png"
            (folder / name).write_bytes(sample.image)
            lines.append(json.dumps(json.loads(shown) | {"file_name": name, "text": sample.texts[0]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
