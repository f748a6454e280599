"""Finding the pictures that a list names, and never one outside the folder it speaks of."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from diptych.data.formats.record import split_of_file
from diptych.errors import DataError

MAX_FOLDERS = 256
"""Folders below the root that are searched for a named picture."""


def inside(root: Path, path: Path) -> Path:
    """The real place of `path`, which must be a regular file under `root`, also after links are followed.

    Args:
        root: a resolved folder.
        path: absolute, or relative to the process.

    Raises:
        DataError: it leads out of `root`, is missing, or is no regular file.
    """
    try:
        real = path.resolve()
        mode = real.stat().st_mode if real.is_relative_to(root) else 0
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot find the picture: {reason}") from error
    if not real.is_relative_to(root):
        raise DataError(f"the path leaves the folder {root}")
    if not stat.S_ISREG(mode):
        raise DataError("not a regular file")
    return real


class Pictures:
    """The pictures under a folder, found by the names that a list gives them.

    A name is relative to the folder, or else to one of the folders in it (`images/`, `train2017/`, `images/val/` ...),
    so that lists from the web work wherever the pictures were unpacked.
    """

    def __init__(self, root: Path, prefix: str = "", split: str | None = None) -> None:
        """Looks in `root`.

        Args:
            root: the folder that names are relative to.
            prefix: goes before keys and lines in the list of rejects, e.g. "train/".
            split: of the list. Folders called as it come first: train and val may both have a `1.jpg`.
        """
        self.root = root.resolve()
        self.prefix = prefix
        self._split = split
        self._own: list[Path] = []
        self._folders: list[Path] | None = None
        self._left = 0
        self._latest = self.root

    def find(self, name: str) -> Path:
        """The picture called `name`.

        Raises:
            DataError: there is none, or it leads out of the folder.
        """
        if "\0" in name or not name.strip():
            raise DataError("the path is empty or has a NUL in it")
        if ".." in Path(name).parts or Path(name).is_absolute():
            return inside(self.root, self.root / name)
        for folder in self._candidates():
            path = folder / name
            if _there(path):
                self._latest = folder
                return inside(self.root, path)
        more = f" (its first {MAX_FOLDERS} folders; {self._left:,} more were not searched)" if self._left else ""
        raise DataError(f"there is no such picture in {self.root}{more}")

    def _candidates(self) -> Iterator[Path]:
        yield self.root
        if self._folders is None:
            self._folders = folders_below(self.root)
            self._left = max(0, len(self._folders) - MAX_FOLDERS)
            del self._folders[MAX_FOLDERS:]
            self._own = [folder for folder in self._folders if self._is_own(folder)]
        yield from self._own
        if self._latest != self.root:
            yield self._latest
        yield from self._folders

    def _is_own(self, folder: Path) -> bool:
        """Whether a folder, or one that it is in, is called as the list's split."""
        return self._split is not None and any(
            split_of_file(part) == self._split for part in folder.relative_to(self.root).parts
        )


def _there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def folders_below(root: Path, depth: int = 2) -> list[Path]:
    """The folders up to `depth` levels below `root`, nearer ones first, links left out."""
    found: list[Path] = []
    level = [root]
    for _ in range(depth):
        level = [child for folder in level for child in child_folders(folder)]
        found.extend(level)
    return found


def files_near(root: Path, depth: int = 2) -> Iterator[Path]:
    """The files of `root` and of folders up to `depth` levels below it: enough to see what kind of source it is."""
    for folder in [root, *folders_below(root, depth)]:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file() and not hidden(entry.name))
        yield from (folder / name for name in names)


def child_folders(folder: Path) -> list[Path]:
    """The folders in `folder` by name; links and hidden ones are left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not hidden(entry.name)]
    return [folder / name for name in sorted(names)]


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder` in a fixed order; hidden ones are left out, a link to a folder counts as a file."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if hidden(name):
            continue
        if is_folder:
            yield from files_below(folder / name)
        else:
            yield folder / name


def hidden(name: str) -> bool:
    """Whether a file is one that file managers leave behind."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def relative_name(path: Path, root: Path) -> str:
    """`path` as a key: relative to `root`, with forward slashes; bytes that are no UTF-8 become U+FFFD."""
    return path.relative_to(root).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
