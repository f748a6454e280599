"""Files that are there whole or not at all: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from diptych.data.durable import flush_to_disk, sha256_of

PARTIAL = ".partial"
"""What the name of a file or folder ends in while it is being written."""


def write_whole(path: Path, text: str) -> None:
    """Puts `text` at `path`; a kill or a power cut leaves the old file or the new one."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8")
    flush_to_disk(partial)
    partial.rename(path)
    flush_to_disk(path.parent)


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Writes the file SHA256 of `names` in `folder`, in the form that `sha256sum --check` reads."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    (folder / "SHA256").write_text("".join(lines), encoding="utf-8")


def damage_in(folder: Path) -> str | None:
    """What is wrong with a folder that `write_sums` closed, in words; None where every file is as it was written."""
    try:
        lines = (folder / "SHA256").read_text(encoding="utf-8").splitlines()
        for line in lines:
            expected, name = line.split("  ", 1)
            if not (folder / name).is_file():
                return f"{name} is missing"
            if sha256_of(folder / name) != expected:
                return f"{name} does not match its SHA256"
    except FileNotFoundError:
        return "its file SHA256 is missing"
    except (OSError, ValueError) as error:
        return f"its file SHA256 cannot be read ({error})"
    return None if lines else "its file SHA256 is empty"
