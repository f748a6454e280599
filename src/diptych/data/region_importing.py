"""Old files of regions, written as a store of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diptych.data.layout import REJECTS_FILE, partial_of, refuse_existing
from diptych.data.region_files.old_store import notes_of, rejects_of
from diptych.data.region_store import RegionWriter
from diptych.data.regions import RegionStore
from diptych.data.rejects import Reject, RejectLog, reason_of
from diptych.errors import DataError, InterruptedRunError
from diptych.progress import SILENT, Progress

FIRST = 100
"""Pictures that show which parts a source has."""


@dataclass(frozen=True, kw_only=True)
class RegionImportResult:
    """What came of an import."""

    out: Path
    pictures: int
    """In the store now."""
    kept: int
    """Of these, what an earlier, unfinished attempt had written."""
    rejects: int
    reasons: Mapping[str, int]
    """How many rejects have each reason, the most frequent first."""
    notes: tuple[str, ...]
    """What is amiss with the files as a whole, e.g. that they were cut short."""


def import_regions(
    source: RegionStore,
    out: Path,
    *,
    soft_labels: bool = True,
    num_classes_kept: int = 5,
    progress: Progress = SILENT,
) -> RegionImportResult:
    """Writes the regions of `source` as the store `out`; a bad row costs itself and a line in OUT/rejects.jsonl.

    The same call goes on from an unfinished attempt.

    Args:
        source: of `open_regions`.
        out: the new store's folder; it appears whole or not at all.
        soft_labels: keep the whole softmax, where the source has it.
        num_classes_kept: likeliest classes of each region.
        progress: sees pictures go by.

    Raises:
        RunExistsError: `out` is there already.
        DataError: no row is whole.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    refuse_existing(out)
    widths = _widths(source)
    softmax = widths.get("soft_labels", 0) if soft_labels else 0
    classes = widths.get("class_ids", max(widths.get("soft_labels", 0) - 1, 0))
    reasons: Counter[str] = Counter()
    with RegionWriter(
        out,
        source.spec,
        num_classes_kept=min(num_classes_kept, classes),
        num_attributes_kept=widths.get("attribute_ids", 0),
        soft_labels=softmax > 0,
        num_soft_labels=softmax or None,
        source=str(source.path.resolve()),
        resume=True,
    ) as writer:
        kept = len(writer.written_keys())
        if kept:
            progress.say(f"going on from {partial_of(out)}, where {kept:,} pictures are already")
        try:
            _copy(source, writer, partial_of(out) / REJECTS_FILE, reasons, progress)
        except KeyboardInterrupt as error:
            writer.end_shards()
            raise InterruptedRunError(
                f"stopped; what was imported is kept in {partial_of(out)}, and the same command goes on from there"
            ) from error
        pictures = len(writer.written_keys())
    return RegionImportResult(
        out=out,
        pictures=pictures,
        kept=kept,
        rejects=reasons.total(),
        reasons=dict(reasons.most_common()),
        notes=notes_of(source),
    )


def _widths(source: RegionStore) -> dict[str, int]:
    """Numbers a region of the parts that the source has, seen in its first pictures: not every one need have all."""
    widths: dict[str, int] = {}
    why: DataError | None = None
    whole = 0
    for key in source.keys():  # noqa: SIM118 - a store is no dict
        try:
            regions = source.regions(key)
        except DataError as error:
            why = why or error
            continue
        whole += 1
        for part in ("class_ids", "soft_labels", "attribute_ids"):
            found = getattr(regions, part)
            if found is not None and len(found):
                widths[part] = found.shape[1]
        if whole == FIRST:
            break
    if not whole:
        raise DataError(f"{source.path} has no whole row ({why})")
    return widths


def _copy(source: RegionStore, writer: RegionWriter, listed: Path, reasons: Counter[str], progress: Progress) -> None:
    listed.unlink(missing_ok=True)  # bad rows may have been mended since the last attempt
    with RejectLog(listed) as log, progress.bar("Importing", len(source), "pictures") as bar:
        for reject in rejects_of(source):
            log.add(reject)
            reasons[reject.reason] += 1
        for key in source.keys():  # noqa: SIM118 - a store is no dict
            if key not in writer.written_keys():
                try:
                    writer.add(key, source.regions(key))
                except DataError as error:
                    reason = reason_of(key, error)
                    log.add(Reject(key, str(source.path), reason))
                    reasons[reason] += 1
            bar.advance(note=f"{reasons.total():,} rejected" if reasons else "")
    if not reasons:
        listed.unlink(missing_ok=True)
