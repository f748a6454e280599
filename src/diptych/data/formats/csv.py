"""CSV and its kin (tabs, semicolons, bars): a column of paths, one or more of texts, one row a text or a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from diptych.data.formats.columns import find_roles
from diptych.data.formats.lists import printable, row_record, without_text_number
from diptych.data.formats.places import Pictures
from diptych.data.formats.record import PICTURE_SUFFIXES, Record, split_of_file, texts_of_cell
from diptych.data.rejects import Reject
from diptych.errors import DataError

SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".token"})
DELIMITERS = ",\t;|"


def sniff(source: Path) -> bool:
    """Whether `source` is such a list, or a folder with lists of this kind and no others."""
    if source.is_file():
        return source.suffix.lower() in SUFFIXES and _header(source) is not None
    return bool(_lists(source))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The rows of a list, or of the lists in a folder; several lists are splits by their names.

    Raises:
        DataError: a file is no list of paths and texts.
    """
    if source.is_file():
        split = split_of_file(source.stem)
        yield from read_csv(source, Pictures(source.parent, split=split), split=split)
        return
    lists = _lists(source)
    if not lists:
        raise DataError(
            f"{source} has no list of paths and texts (.csv, .tsv, .txt); name the file, or another --format"
        )
    for file in lists:
        split = split_of_file(file.stem)
        yield from read_csv(file, Pictures(source, split=split), split=split)


def read_csv(file: Path, pictures: Pictures, *, split: str | None) -> Iterator[Record | Reject]:
    """The rows of one file.

    Raises:
        DataError: it is UTF-16 or has no column of paths.
    """
    header = _header(file)
    if header is None:
        raise DataError(f"{file} has no column that names pictures; expected a first line such as 'image,caption'")
    columns, delimiter, has_header = header
    with _opened(file) as lines:
        rows = csv.reader(lines, delimiter=delimiter)
        if has_header:
            next(rows)
        yield from _records(rows, file, columns, pictures, split)


def _records(
    rows: Any, file: Path, columns: list[str], pictures: Pictures, split: str | None
) -> Iterator[Record | Reject]:
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Reject(f"line {rows.line_num}", f"{file.name} line {rows.line_num}", f"not a row of CSV: {error}")
            continue
        source = f"{file.name} line {rows.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        wrong = _wrong(cells, columns)
        if wrong is not None:
            yield Reject(printable(cells[0])[:200], source, wrong)
            continue
        row = dict(zip(columns, cells, strict=False))
        yield row_record(row, pictures, number=rows.line_num, source=source, split=split, texts=texts_of_cell)


def _wrong(cells: list[str], columns: list[str]) -> str | None:
    if not all(_is_unicode(cell) for cell in cells):
        return "not UTF-8"
    if len(cells) > len(columns):
        return (
            f"{len(cells)} cells where the first line has {len(columns)}; is a text with the delimiter in it unquoted?"
        )
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(file: Path) -> TextIO:
    return file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lists(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    return [file for file in files if not file.name.startswith(".") and _header(file) is not None]


def _header(file: Path) -> tuple[list[str], str, bool] | None:
    """Columns, delimiter and whether the first line names them; None where it is no list of pictures.

    A file without a first line of names is one if its first cell is a picture's name: `1.jpg#0<tab>A dog .`
    """
    with file.open("rb") as raw:
        start = raw.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{file} is UTF-16; save it as UTF-8 and import it again")
    with _opened(file) as lines:
        line = lines.readline(1 << 16)
    for delimiter in sorted(DELIMITERS, key=lambda mark: -line.count(mark)):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        found = _named(cells) or _unnamed(cells)
        if found is not None and len(cells) > 1:
            return found[0], delimiter, found[1]
    return None


def _named(cells: list[str]) -> tuple[list[str], bool] | None:
    names = [cell.strip() for cell in cells]
    roles = find_roles(tuple(names))
    usable = roles.picture is not None and (roles.texts or roles.label is not None or roles.label_name is not None)
    return (names, True) if usable else None


def _unnamed(cells: list[str]) -> tuple[list[str], bool] | None:
    first = without_text_number(cells[0].strip()) if cells else ""
    if len(cells) == 2 and Path(first).suffix.lower() in PICTURE_SUFFIXES:
        return ["path", "text"], False
    return None
