"""Import: a source of pictures and texts, read row by row, checked, and written as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from diptych.data.formats import detect
from diptych.data.formats.checking import checked, in_order
from diptych.data.formats.gather import Gatherer
from diptych.data.formats.record import TRAIN, Record
from diptych.data.formats.survey import Survey, place_of, survey
from diptych.data.images import MAX_PIXELS
from diptych.data.layout import REJECTS_FILE, check_split_name, partial_of, refuse_existing
from diptych.data.rejects import Reject, RejectLog, check_share
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, InterruptedRunError, UsageError
from diptych.progress import SILENT, Bar, Progress

MAX_TEXT = 100_000
"""Characters of one text."""


VALIDATION = "validation"

FEWEST_TO_SHARE = 20
"""A source of fewer rows is trained on whole."""


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What came of an import."""

    out: Path
    format: str
    splits: Mapping[str, int]
    """Rows by split."""
    texts: int
    """Of all rows in the table."""
    rejects: int
    reasons: Mapping[str, int]
    """How many rejects have each reason, the most frequent first."""
    kept: int
    """Rows that an earlier, unfinished attempt had written."""
    held_out: int
    """Rows made the split "validation" here, since the source names no splits."""


def import_table(
    source: str,
    out: Path,
    *,
    format: str | None = None,  # noqa: A002 - the word that users type
    max_rejects: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    reference: bool = False,
    validation: float = 0.05,
    progress: Progress = SILENT,
) -> ImportResult:
    """Writes the pictures and texts of `source` as the table `out`.

    The source is read twice: once without pictures, for its columns, labels and repeated keys, then row by row. Each
    picture is decoded once as a check and stored as the bytes it came in. Rows that are no use are listed with their
    reason in OUT/rejects.jsonl.

    Args:
        source: a file, a folder, or a name on the Hugging Face hub.
        out: the new table's folder; it appears whole or not at all.
        format: one of `detect.NAMES`; None recognises it.
        max_rejects: share of the rows, 0 to 1; more than this many bad ones stop the import.
        max_pixels: larger pictures are rejected.
        reference: store where the pictures lie instead of their bytes.
        validation: share of the rows, 0 to below 1, that are held out as the split "validation" where the source names
            no split at all and has 20 rows or more: those with the least hash of their group (or key), at least one.
        progress: sees rows go by.

    Raises:
        UsageError: an option is off.
        RunExistsError: `out` is there already.
        DataError: the source cannot be read, or too many rows are bad; what was imported stays in OUT.partial, and the
            same call goes on from it.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    check_share(max_rejects, "rows")
    if not 0 <= validation < 1:
        raise UsageError(
            f"--validation is {validation}; expected a share of the rows from 0 (hold out none) to below 1, e.g. 0.05"
        )
    refuse_existing(out)
    name = detect.detect(source, format)
    try:
        read = partial(detect.read, name, Path(source))
        with survey(read(pictures=False), detect.label_names(name, Path(source)), progress) as found:
            if found.rows == 0:
                raise DataError(f"{source} has no rows (read as {name}); is it empty, or of another --format?")
            if reference and found.embedded:
                raise UsageError(
                    f"--reference is for pictures in files of their own; {source} ({name}) holds them inside"
                )
            task = _Import(source, name, out, found, max_rejects, reference, _held_out(found, validation))
            return task.run(read(), partial(checked, max_pixels=max_pixels, reference=reference), progress)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; what was imported is kept in {partial_of(out)}, and the same command goes on from there"
        ) from error


def _held_out(found: Survey, share: float) -> float:
    """Rows whose place is below this are held out; 0 where none are."""
    least, most = found.places
    if found.splits or share == 0 or found.rows < FEWEST_TO_SHARE:
        return 0.0
    cut = max(share, math.nextafter(least, 1.0))
    return cut if most >= cut else 0.0  # rows of one group are not parted


class _Import:
    """One attempt, from the second reading to the finished table."""

    def __init__(
        self, source: str, name: str, out: Path, found: Survey, max_rejects: float, reference: bool, cut: float
    ) -> None:
        """`cut` is of `_held_out`."""
        self._source, self._name, self._out, self._found = source, name, out, found
        self._max_rejects, self._reference, self._cut = max_rejects, reference, cut
        self._columns = found.types.types()
        self._reasons: Counter[str] = Counter()
        self._texts = 0

    def run(
        self, records: Iterable[Record | Reject], check: Callable[[Record], Record | Reject], progress: Progress
    ) -> ImportResult:
        """Checks and writes every row, and finishes the table."""
        if self._found.types.left_out:
            progress.say(
                f"{len(self._found.types.left_out)} columns beyond the first {len(self._columns)} are left out"
            )
        meta = {"label_names": list(self._found.label_names)} if self._found.label_names else {}
        begun = any(partial_of(self._out).glob("*.arrow"))
        with TableWriter(self._out, columns=self._columns, meta=meta, source=self._about(), resume=begun) as writer:
            kept = sum(writer.rows.values())
            if kept:
                progress.say(f"going on from {partial_of(self._out)}, where {kept:,} rows are already")
            try:
                self._write(records, check, writer, progress)
            except (DataError, KeyboardInterrupt):
                writer.end_shards()
                raise
            splits = writer.rows
            if not splits:
                raise DataError(self._too_many("all rows are bad"))
        return ImportResult(
            out=self._out,
            format=self._name,
            splits=splits,
            texts=self._texts,
            rejects=self._reasons.total(),
            reasons=dict(self._reasons.most_common()),
            kept=kept,
            held_out=splits.get(VALIDATION, 0) if self._cut else 0,
        )

    def _write(
        self,
        records: Iterable[Record | Reject],
        check: Callable[[Record], Record | Reject],
        writer: TableWriter,
        progress: Progress,
    ) -> None:
        listed = partial_of(self._out) / REJECTS_FILE
        listed.unlink(missing_ok=True)  # bad files may have been mended since the last attempt
        with (
            RejectLog(listed) as log,
            Gatherer(self._found.keys) as gatherer,
            progress.bar("Importing", self._found.rows, "rows") as bar,
        ):
            pending = self._wanted(records, gatherer, writer, bar)
            for record in in_order(check, pending):
                if isinstance(record, Record) and record.key in writer.written_keys():
                    record = Reject(record.key, record.source, "the key came before")
                if isinstance(record, Record):
                    self._add(record, writer)
                else:
                    log.add(record)
                    self._count(record, bar)
        if not self._reasons:
            listed.unlink(missing_ok=True)

    def _wanted(
        self, records: Iterable[Record | Reject], gatherer: Gatherer, writer: TableWriter, bar: Bar
    ) -> Iterator[Record | Reject]:
        """Rows that are complete and not yet written, and rejects."""
        written = writer.written_keys()
        for record in records:
            bar.advance()
            for whole in gatherer.add(record) if isinstance(record, Record) else [record]:
                if isinstance(whole, Record) and whole.key in written:
                    self._texts += len(whole.texts)
                else:
                    yield self._usable(whole)

    def _usable(self, record: Record | Reject) -> Record | Reject:
        """The record, or why its words are of no use."""
        if isinstance(record, Reject):
            return record
        longest = max(map(len, record.texts), default=0)
        if longest > MAX_TEXT:
            return Reject(record.key, record.source, f"a text of {longest:,} characters; at most {MAX_TEXT:,} are read")
        silent = self._name in detect.WITHOUT_WORDS
        if (
            not silent
            and not record.texts
            and self._found.label(record) is None
            and record.fields.get("objects") is None
        ):
            return Reject(record.key, record.source, "it has no text, label or objects")
        try:
            check_split_name(self._split(record))
            for name, type_ in self._columns.items():
                pa.array([self._found.types.value(name, record.fields.get(name))], type=type_)
        except (DataError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            return Reject(record.key, record.source, str(error))
        return record

    def _split(self, record: Record) -> str:
        if record.split is not None:
            return record.split
        return VALIDATION if place_of(record.group or record.key) < self._cut else TRAIN

    def _add(self, record: Record, writer: TableWriter) -> None:
        fields = {name: self._found.types.value(name, record.fields.get(name)) for name in self._columns}
        writer.add(
            self._split(record),
            key=record.key,
            image=record.image if isinstance(record.image, bytes) else None,
            image_path=str(record.image) if isinstance(record.image, Path) else None,
            texts=record.texts,
            group=record.group,
            label=self._found.label(record),
            fields=fields,
        )
        self._texts += len(record.texts)

    def _count(self, reject: Reject, bar: Bar) -> None:
        """Stops the import when too many rows are bad."""
        self._reasons[reject.reason] += 1
        bar.advance(0, note=f"{self._reasons.total():,} rejected")
        if self._reasons.total() > self._max_rejects * self._found.rows:
            raise DataError(self._too_many(f"more than --max-rejects {self._max_rejects} allows"))

    def _too_many(self, why: str) -> str:
        worst = "; ".join(f"{num} x {reason}" for reason, num in self._reasons.most_common(3))
        return (
            f"{self._reasons.total():,} of the {self._found.rows:,} rows of {self._source} are bad, {why}: {worst}. "
            f"The whole list is {partial_of(self._out) / REJECTS_FILE}; what was imported is kept beside it. Mend the "
            f"source or pass a larger --max-rejects, and the same command goes on from there"
        )

    def _about(self) -> str:
        place = Path(self._source)
        held = f", {self._cut:.6g} of it held out" if self._cut else ""
        return (
            f"{place.resolve() if place.exists() else place} as {self._name}{' by reference' * self._reference}{held}"
        )
