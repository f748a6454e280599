"""WebDataset: tar files whose members `KEY.jpg`, `KEY.txt`, `KEY.json`, `KEY.cls` follow each other."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

from diptych.data.formats.columns import find_roles, record_of
from diptych.data.formats.places import files_below, files_near, relative_name
from diptych.data.formats.record import (
    MAX_PICTURE_BYTES,
    MAX_TEXT_BYTES,
    PICTURE_SUFFIXES,
    Record,
    split_of_place,
    texts_of,
)
from diptych.data.rejects import Reject
from diptych.errors import DataError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TEXT_SUFFIXES = frozenset({".txt", ".text", ".caption"})
DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)


def sniff(source: Path) -> bool:
    """Whether `source` is a tar file, or a folder with some below it."""
    return any(_is_tar(file) for file in ([source] if source.is_file() else files_near(source)))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The samples of every tar in order of its name, read as a stream and never extracted.

    Only regular files are read; members with `..`, absolute names, links and devices are rejected. A damaged tar costs
    what lies behind the damage.

    Raises:
        DataError: there is no tar file.
    """
    files = list(_files(source))
    if not files:
        raise DataError(f"{source} has no tar file in it; expected names that end in {', '.join(ENDINGS)}")
    root = source.parent if source.is_file() else source
    for file in files:
        name = relative_name(file, root)
        yield from _samples(file, name, split_of_place(file, root, file.name.split(".", 1)[0]), pictures)


@dataclass
class _Sample:
    """The members of one key, as far as they came."""

    key: str
    image: bytes | None = None
    has_image: bool = False
    texts: list[str] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    wrong: str | None = None


def _samples(file: Path, name: str, split: str | None, pictures: bool) -> Iterator[Record | Reject]:
    sample: _Sample | None = None
    try:
        with tarfile.open(file, "r|*", tarinfo=_StrictTarInfo) as tar:
            for member in tar:
                if member.isdir():
                    continue
                wrong = _unsafe(member)
                if wrong is not None:
                    yield Reject(_printable(member.name), f"{name} member {_printable(member.name)}", wrong)
                    continue
                key, suffix = _key_and_suffix(member.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield _record(sample, name, split)
                    sample = _Sample(key)
                _take(sample, tar, member, suffix, pictures)
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it saw
    except DAMAGE as error:
        sample = None  # it may lack members that lie behind the damage
        yield Reject(name, name, f"damaged tar: {error or type(error).__name__}; what lies behind is lost")
    if sample is not None:
        yield _record(sample, name, split)


def _take(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, pictures: bool) -> None:
    """Puts one member into its sample."""
    is_picture = suffix in PICTURE_SUFFIXES
    limit = MAX_PICTURE_BYTES if is_picture else MAX_TEXT_BYTES
    if not is_picture and suffix not in TEXT_SUFFIXES and suffix not in (".json", ".cls"):
        return
    if member.size > limit:
        sample.wrong = f"{suffix} of {member.size:,} bytes; at most {limit:,} are read"
        return
    if is_picture and sample.has_image:
        return
    if is_picture:
        sample.has_image = True
        sample.image = _content(tar, member) if pictures else None
        return
    try:
        _take_words(sample, suffix, _content(tar, member).decode("utf-8-sig"))
    except UnicodeDecodeError:
        sample.wrong = f"{suffix} is not UTF-8"
    except (ValueError, RecursionError) as error:
        sample.wrong = f"{suffix} cannot be read: {error}"


def _take_words(sample: _Sample, suffix: str, words: str) -> None:
    if suffix == ".json":
        row = json.loads(words)
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, found {type(row).__name__}")
        sample.row.update(row)
    elif suffix == ".cls":
        sample.row.setdefault("label", words.strip())
    else:
        sample.texts.extend(texts_of(words))


def _record(sample: _Sample, name: str, split: str | None) -> Record | Reject:
    source = f"{name} sample {_printable(sample.key)}"
    if sample.wrong is not None or not sample.has_image:
        return Reject(_printable(sample.key), source, sample.wrong or "no picture among its members")
    try:
        roles = find_roles(tuple(sample.row), embedded=True)
        key = _printable(sample.key)
        found = record_of(sample.row, roles, image=sample.image, path=key, number=key, source=source, split=split)
    except DataError as error:
        return Reject(_printable(sample.key), source, str(error))
    known = set(found.texts)
    texts = (*found.texts, *(text for text in sample.texts if text not in known))
    return replace(found, key=key, texts=texts)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, "only regular files come here"
    data = opened.read()
    if len(data) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return data


def _unsafe(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read."""
    path = PurePosixPath(member.name)
    if ".." in path.parts:
        return "its name has '..' in it"
    if path.is_absolute():
        return "its name is an absolute path"
    if member.issym() or member.islnk():
        return "a link, not a file"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    return None


def _key_and_suffix(member: str) -> tuple[str, str]:
    """The name up to the first dot of its last part, and what is behind its last dot, in small letters."""
    path = PurePosixPath(member)
    stem = path.name.split(".", 1)[0]
    folder = "" if str(path.parent) == "." else f"{path.parent}/"
    return f"{folder}{stem}", path.suffix.lower()


class _StrictTarInfo(tarfile.TarInfo):
    """A header that is damaged raises; tarfile would take it for the end of the archive and lose the rest unsaid."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        # Not in `frombuf`: under Python 3.12.3 damage was not seen there.
        try:
            return super().fromtarfile(archive)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise  # a block of zeros, or nothing: the end
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    else:
        yield from (path for path in files_below(source) if _is_tar(path) and path.is_file())


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)
