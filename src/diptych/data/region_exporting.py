"""A store of regions as the files that other systems read: two TSVs, UNITER's npz folder, Oscar's pair of TSVs."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.durable import flush_to_disk, write_whole
from diptych.data.layout import partial_of
from diptych.data.region_files.detect import side_file
from diptych.data.region_files.lines import Lines
from diptych.data.regions import BoxUnit, Regions, RegionSpec, RegionStore, box_shares
from diptych.errors import DataError, InterruptedRunError, RunExistsError, UsageError, unknown
from diptych.progress import SILENT, Bar, Progress

NAMES = ("butd-tsv", "lxmert-tsv", "uniter-npz", "oscar-tsv")
FLUSH_EVERY = 64
"""Pictures between two waits for the disk."""


def export_regions(store: RegionStore, out: Path, *, format: str, progress: Progress = SILENT) -> int:  # noqa: A002
    """Writes all regions of `store` in another format; returns the pictures written.

    Goes on from an unfinished attempt of the same call: rows that are in are skipped, and a torn last row is cut off.
    What the regions were made with goes to `OUT.regions.json` (for Oscar: features.tsv.regions.json in the folder),
    where `open_regions` reads it.

    Args:
        store: of `open_regions`.
        out: a new file for the first two of NAMES, a new folder for the others.
        format: one of NAMES.
        progress: sees pictures go by.

    Raises:
        UsageError: there is no such format.
        RunExistsError: `out` is there already.
        DataError: a picture lacks what the format holds: its size, classes, or a key that fits.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    if format not in NAMES:
        raise UsageError(unknown("format", format, NAMES))
    if out.exists():
        raise RunExistsError(f"{out} is there already; choose another, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, about = partial_of(out), out.with_name(f"{out.name}.partial.json")
    _begin(partial, about, _about(store, format))
    try:
        with progress.bar("Exporting", len(store), "pictures") as bar:
            match format:
                case "uniter-npz":
                    _npz_files(store, partial, bar)
                case "oscar-tsv":
                    _oscar_files(store, partial, bar)
                case _:
                    row = _butd_row if format == "butd-tsv" else _lxmert_row
                    _append(store, [(partial, row)], bar)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; what was exported is kept in {partial}, and the same command goes on from there"
        ) from error
    unit: BoxUnit = "unit" if format == "uniter-npz" else "pixel"
    told = replace(store.spec, box_unit=unit, plus_one=store.spec.plus_one and unit == "pixel")
    side = side_file(partial / "features.tsv" if format == "oscar-tsv" else out)
    write_whole(side, (json.dumps({"spec": asdict(told), "source": str(store.path)}, indent=2) + "\n").encode())
    partial.rename(out)
    about.unlink()
    flush_to_disk(out.parent)
    return len(store)


def _about(store: RegionStore, format: str) -> str:  # noqa: A002
    """What an unfinished attempt is of, as it lies beside it."""
    told = {"format": format, "source": str(store.path.resolve()), "pictures": len(store), "spec": store.spec.digest()}
    return json.dumps(told) + "\n"


def _begin(partial: Path, about: Path, wanted: str) -> None:
    """Goes on with an unfinished attempt of the same call alone."""
    if partial.exists() and not (about.is_file() and about.read_text(encoding="utf-8") == wanted):
        raise DataError(
            f"{partial} was begun from another store or in another format; remove it to start anew, or choose another "
            "OUT"
        )
    write_whole(about, wanted.encode())


def _append(store: RegionStore, files: list[tuple[Path, Callable[[str, Regions, RegionSpec], str]]], bar: Bar) -> None:
    """Writes one row a picture to each file, in step; whole rows of an earlier attempt stay."""
    done = min(_whole_rows(path) for path, _ in files)
    handles = [_opened_behind(path, done) for path, _ in files]
    try:
        for number, key in enumerate(store.keys()):
            if number >= done:
                if any(mark in key for mark in "\t\n\r") or key != key.strip():
                    raise DataError(f"the key {key!r} does not fit into a TSV; it has white space that would be lost")
                regions = store.regions(key)
                for handle, (_, row) in zip(handles, files, strict=True):
                    handle.write(f"{key}\t{row(key, regions, store.spec)}\n".encode())
                if number % FLUSH_EVERY == FLUSH_EVERY - 1:
                    _flush(handles)
            bar.advance()
        _flush(handles)
    finally:
        for handle in handles:
            handle.close()


def _whole_rows(path: Path) -> int:
    if not path.is_file() or not path.stat().st_size:
        return 0
    lines = Lines(path)
    return sum(1 for _ in lines.starts()) - (not lines.ends_whole())


def _opened_behind(path: Path, rows: int) -> Any:
    """The file, cut behind its first `rows` rows; all attempts write pictures in the store's order."""
    handle = path.open("ab")
    size = 0
    if rows:
        starts = [*Lines(path).starts(), path.stat().st_size]
        size = starts[rows]
    handle.truncate(size)
    return handle


def _flush(handles: list[Any]) -> None:
    for handle in handles:
        handle.flush()
        os.fsync(handle.fileno())


def _butd_row(key: str, regions: Regions, spec: RegionSpec) -> str:
    height, width = _size(key, regions)
    boxes = _text(_pixels(key, regions, spec), "<f4")
    return f"{width}\t{height}\t{len(regions)}\t{boxes}\t{_text(regions.features, '<f4')}"


def _lxmert_row(key: str, regions: Regions, spec: RegionSpec) -> str:
    height, width = _size(key, regions)
    if regions.class_ids is None or regions.class_probs is None:
        raise DataError(f"the regions of {key!r} have no classes, which LXMERT's TSV holds; write a butd-tsv")
    none = np.zeros((len(regions), 1))
    attributes = none if regions.attribute_ids is None else regions.attribute_ids
    probs = none if regions.attribute_probs is None else regions.attribute_probs
    cells = [
        _text(regions.class_ids[:, 0], "<i8"),
        _text(regions.class_probs[:, 0], "<f4"),
        _text(attributes[:, 0], "<i8"),
        _text(probs[:, 0], "<f4"),
        str(len(regions)),
        _text(_pixels(key, regions, spec), "<f4"),
        _text(regions.features, "<f4"),
    ]
    return "\t".join([str(height), str(width), *cells])


def _oscar_files(store: RegionStore, folder: Path, bar: Bar) -> None:
    folder.mkdir(exist_ok=True)
    files = {"features": _oscar_features, "predictions": _oscar_labels}
    _append(store, [(folder / f"{name}.tsv", row) for name, row in files.items()], bar)
    for name in files:
        starts = Lines(folder / f"{name}.tsv").starts()
        write_whole(folder / f"{name}.lineidx", "".join(f"{start}\n" for start in starts).encode())
    rows = {key: row for row, key in enumerate(store.keys())}
    write_whole(folder / "imageid2idx.json", json.dumps(rows).encode())


def _oscar_features(key: str, regions: Regions, spec: RegionSpec) -> str:
    numbers = np.concatenate([regions.features.astype(np.float32), _spatial(key, regions, spec)], axis=1)
    return f"{len(regions)}\t{_text(numbers, '<f4')}"


def _oscar_labels(key: str, regions: Regions, spec: RegionSpec) -> str:
    if regions.class_ids is None or regions.class_probs is None or not spec.classes:
        raise DataError(f"the regions of {key!r} have no named classes, which Oscar's label file holds")
    height, width = _size(key, regions)
    parts = zip(regions.class_ids[:, 0], regions.class_probs[:, 0], _pixels(key, regions, spec), strict=True)
    objects = [
        {"class": spec.classes[id_], "conf": float(prob), "rect": [float(side) for side in box]}
        for id_, prob, box in parts
    ]
    return json.dumps({"image_h": height, "image_w": width, "objects": objects})


def _npz_files(store: RegionStore, folder: Path, bar: Bar) -> None:
    folder.mkdir(exist_ok=True)
    for key in store.keys():  # noqa: SIM118 - a store is no dict
        name = key if key.endswith(".npz") else f"{key}.npz"
        if Path(name).name != name or name.startswith("."):
            raise DataError(f"the key {key!r} is no name of a file, and may not lead out of the folder")
        if not (folder / name).exists():
            write_whole(folder / name, _npz(key, store.regions(key), store.spec))
        bar.advance()


def _npz(key: str, regions: Regions, spec: RegionSpec) -> bytes:
    arrays = {
        "norm_bb": _spatial(key, regions, spec),
        "features": regions.features,
        "conf": regions.scores[:, None],
    }
    if regions.soft_labels is not None:
        arrays["soft_labels"] = regions.soft_labels
    file = io.BytesIO()
    halves: dict[str, Any] = {name: value.astype(np.float16) for name, value in arrays.items()}
    np.savez_compressed(file, **halves)
    return file.getvalue()


def _spatial(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    """(R, 6): x0, y0, x1, y1, w, h as shares of the picture."""
    boxes = box_shares(key, regions, spec)
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def _pixels(key: str, regions: Regions, spec: RegionSpec) -> np.ndarray:
    if spec.box_unit == "pixel":
        return regions.boxes
    height, width = _size(key, regions)
    return regions.boxes * np.array([width, height] * 2, dtype=np.float32)


def _size(key: str, regions: Regions) -> tuple[int, int]:
    if regions.height_px is None or regions.width_px is None:
        raise DataError(f"the size of the picture {key!r} is not known, and this format holds it; write uniter-npz")
    return regions.height_px, regions.width_px


def _text(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
