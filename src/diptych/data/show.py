"""What a table holds, in numbers: rows, texts and their lengths, sizes of pictures, a few texts."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from diptych.data.examples import BOX, ENTAILMENT, OPTIONS, Task, answer_names
from diptych.data.images import FORMATS
from diptych.data.layout import REJECTS_FILE, STORE
from diptych.data.rejects import read_rejects
from diptych.data.swapped import SWAPPED
from diptych.data.table import PICTURE_KEY, Rows, Table

LOOKED_AT = 500
"""Pictures of a split whose header is read for size and format, evenly spread."""

Holds = Literal["pairs", "pictures", "texts", "store"] | Task
"""What there is to learn from: texts alone, or examples of a task, are of pictures that lie elsewhere."""

SHOWN_TEXTS = 5
SHOWN_LABELS = 20


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Least, middle and greatest of some whole numbers."""

    least: int
    median: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least:,}"
        return f"{self.least:,} to {self.most:,}, median {self.median:,}"


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """One split in numbers; None where it has nothing of the kind."""

    rows: int
    groups: int
    pictures: int = 0
    """Embedded or referenced."""
    referenced: int = 0
    picture_bytes: Spread | None = None
    width: Spread | None = None
    """In pixels, of the pictures looked at."""
    height: Spread | None = None
    formats: Mapping[str, int] = field(default_factory=dict)
    """Of the pictures looked at."""
    texts: int = 0
    texts_a_row: Spread | None = None
    words_a_text: Spread | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    """Rows by label, the most frequent first."""
    sample: Sequence[str] = ()
    """A few texts, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class ShownTable:
    """One table of strings for a person."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class TableSummary:
    """A table in numbers."""

    path: str
    kind: str
    holds: Holds
    source: str
    fingerprint: str
    columns: Mapping[str, str]
    rejects: int
    splits: Mapping[str, SplitSummary]

    def to_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def tables(self) -> list[ShownTable]:
        """For the screen: counts by split, then columns, labels and a few texts."""
        shown = [
            ShownTable(
                title=f"{self.path}: {self._kind()}" + (f" from {self.source}" if self.source else ""),
                columns=("", *self.splits),
                rows=[row for row in self._counts() if any(row[1:])],
            ),
            ShownTable(title="columns", columns=("column", "type"), rows=list(self.columns.items())),
        ]
        labels = [(name, f"{num:,}") for name, num in _added(split.labels for split in self.splits.values())]
        if labels:
            most = f", the {SHOWN_LABELS} most frequent" if len(labels) > SHOWN_LABELS else ""
            title = f"labels ({len(labels):,}){most}"
            shown.append(ShownTable(title=title, columns=("label", "rows"), rows=labels[:SHOWN_LABELS]))
        texts = [(name, text) for name, split in self.splits.items() for text in split.sample]
        if texts:
            shown.append(ShownTable(title="some texts", columns=("split", "text"), rows=texts))
        return shown

    def _kind(self) -> str:
        match self.holds:
            case "pairs" | "pictures" | "store":
                return self.kind
            case "texts":
                return "texts without pictures"
            case task:
                return f"examples of {task} without pictures"

    def _counts(self) -> list[tuple[str, ...]]:
        splits = list(self.splits.values())

        def line(name: str, cells: Iterable[object]) -> tuple[str, ...]:
            return (name, *map(_cell, cells))

        return [
            line("rows", (split.rows for split in splits)),
            line("groups", (split.groups for split in splits)),
            line("pictures", (split.pictures for split in splits)),
            line("of these referenced", (split.referenced for split in splits)),
            line("width in pixels", (split.width for split in splits)),
            line("height in pixels", (split.height for split in splits)),
            line("bytes of a picture", (split.picture_bytes for split in splits)),
            line("formats", (", ".join(split.formats) for split in splits)),
            line("texts", (split.texts for split in splits)),
            line("texts of a row", (split.texts_a_row for split in splits)),
            line("words of a text", (split.words_a_text for split in splits)),
            line("rejects", [self.rejects]),
        ]


def describe(table: Table) -> TableSummary:
    """Counts every row, and looks into a few hundred pictures of each split."""
    rejects = table.path / REJECTS_FILE
    names = table.meta.get("label_names", ())
    splits = {name: _summary(table.split(name), table.kind, names) for name in table.splits}
    return TableSummary(
        path=str(table.path),
        kind=table.kind,
        holds=_held(table, splits.values()),
        source=table.source,
        fingerprint=table.fingerprint,
        columns={name: str(type_) for name, type_ in table.columns.items()},
        rejects=len(read_rejects(rejects)) if rejects.exists() else 0,
        splits=splits,
    )


def _held(table: Table, splits: Collection[SplitSummary]) -> Holds:
    if table.kind == STORE:
        return "store"
    if PICTURE_KEY in table.columns:
        return _task(table)
    if not any(split.pictures for split in splits):
        return "texts"
    return "pairs" if any(split.texts for split in splits) else "pictures"


def _task(table: Table) -> Task:
    """Whose examples a table holds, by its columns and answers."""
    if BOX in table.columns:
        return "re"
    if SWAPPED in table.columns:
        return "swapped"
    if OPTIONS in table.columns:
        return "vcr"
    if pa.types.is_list(table.columns[PICTURE_KEY]):
        return "nlvr2"
    given = next((text for name in table.splits for text in answer_names(table.split(name))), "")
    return "ve" if given in ENTAILMENT else "vqa"


def even_rows(num_rows: int, wanted: int) -> list[int]:
    """At most `wanted` rows, evenly spread, the same every time."""
    return [int(row) for row in np.linspace(0, num_rows - 1, min(wanted, num_rows))]


def label_name(label: int, names: Sequence[str]) -> str:
    """The name of a label, or its number where it has none."""
    return (names[label] if 0 <= label < len(names) else "") or str(label)


def _summary(rows: Rows, kind: str, label_names: Sequence[str]) -> SplitSummary:
    if kind == STORE:
        return SplitSummary(rows=len(rows), groups=len(rows))
    image = rows.column("image")
    texts = rows.column("texts")
    looked = [size for row in even_rows(len(rows), LOOKED_AT) if (size := _header(rows.sample(row).image)) is not None]
    labels = Counter({label: num for label, num in _counted(rows.column("label")) if label is not None})
    return SplitSummary(
        rows=len(rows),
        groups=pc.count_distinct(rows.column("group")).as_py(),
        pictures=rows.num_pictures,
        referenced=len(rows) - rows.column("image_path").null_count,
        picture_bytes=_spread(_lengths(image, pc.binary_length)),
        width=_spread(np.array([width for width, _, _ in looked])),
        height=_spread(np.array([height for _, height, _ in looked])),
        formats=dict(Counter(format_ for _, _, format_ in looked).most_common()),
        texts=int(_lengths(texts, pc.list_value_length).sum()),
        texts_a_row=_spread(_lengths(texts, pc.list_value_length)),
        words_a_text=_spread(_lengths(texts, _words)),
        labels={label_name(label, label_names): num for label, num in labels.most_common()},
        sample=[text for row in even_rows(len(rows), SHOWN_TEXTS) for text in rows.sample(row).texts[:1]],
    )


def _cell(value: object) -> str:
    """Nothing where there is nothing to tell."""
    if value is None or value == 0:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _lengths(column: pa.ChunkedArray, length: Any) -> np.ndarray:
    """A whole number for each value that is there, chunk by chunk, so that pictures are never held."""
    return np.concatenate([length(chunk).drop_null().to_numpy(zero_copy_only=False) for chunk in column.chunks])


def _words(texts: pa.ListArray) -> pa.Array:
    return pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts.flatten())))


def _spread(values: np.ndarray) -> Spread | None:
    if not len(values):
        return None
    return Spread(least=int(values.min()), median=int(np.median(values)), most=int(values.max()))


def _counted(column: pa.ChunkedArray) -> list[tuple[int | None, int]]:
    return [(one["values"], one["counts"]) for one in pc.value_counts(column).to_pylist()]


def _header(image: bytes | Path | None) -> tuple[int, int, str] | None:
    """(width, height, format) as the file's first bytes say, None where they say nothing."""
    if image is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=FORMATS) as picture:
                return picture.width, picture.height, str(picture.format)
    except Exception:  # what cannot be read is counted as a picture, and has no size
        return None


def _added(counts: Iterable[Mapping[str, int]]) -> list[tuple[str, int]]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total.most_common()
