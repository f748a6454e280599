"""Drawing a whole world into a table, on one core or several, to the same pictures, and going on where it stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.data.scenes.painters import Piece, draw_all
from diptych.data.scenes.scene import key_of
from diptych.data.scenes.settings import SIZES, SceneSettings
from diptych.data.scenes.splits import split_sizes, unseen_pairs
from diptych.errors import DataError, InterruptedRunError
from diptych.progress import SILENT, Progress

if TYPE_CHECKING:
    from diptych.data.index import KeySet
    from diptych.data.table_writer import TableWriter

TEMPLATES = ("a {}", "a picture of a {}", "a drawing of a {}")
"""What zero-shot classification puts a thing's name into: wordings that training texts have."""

CHUNK = 128
"""Scenes that a worker draws at a time."""


def draw_scenes(out: Path, settings: SceneSettings, *, progress: Progress = SILENT, workers: int = 1) -> None:
    """Draws the world of `settings` and writes it as the table `out`, going on where an earlier attempt stopped.

    The first Ctrl-C or SIGTERM ends it after the scenes at hand, a second one at once.

    Args:
        out: the folder that will be the table.
        settings: the world; see `easy` and `hard`.
        progress: told of every scene.
        workers: processes that draw; the rows are the same for any number.
    Raises:
        RunExistsError: `out` is there already.
        DataError: a worker died, or an unfinished attempt was at another world.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    # Here, because the processes that draw import this package and need no Arrow.
    from diptych.data.scenes.columns import COLUMNS
    from diptych.data.table_writer import TableWriter

    writer = TableWriter(out, columns=COLUMNS, meta=world_of(settings), source=source_of(settings), resume=True)
    with writer:
        try:
            with _stoppable() as stop:
                _write(writer, settings, progress, workers, stop)
        except KeyboardInterrupt as error:
            writer.end_shards()
            raise InterruptedRunError(
                f"stopped; {sum(writer.rows.values()):,} of {settings.num:,} scenes are kept in {writer.folder}, and "
                "the same command goes on from there"
            ) from error
        except DataError:
            writer.end_shards()
            raise


def _write(
    writer: TableWriter, settings: SceneSettings, progress: Progress, workers: int, stop: threading.Event
) -> None:
    """Draws and writes what is not there yet."""
    done = len(writer.written_keys())
    pieces = list(_missing(settings, writer.written_keys()))
    with (
        progress.bar("drawing scenes", settings.num, "scenes", done) as bar,
        closing(draw_all(settings, pieces, min(workers, len(pieces)))) as drawn,
    ):
        for scenes in drawn:
            for scene in scenes:
                writer.add(
                    scene.split,
                    key=scene.key,
                    image=scene.image,
                    texts=scene.texts,
                    label=scene.label,
                    fields=scene.fields,
                )
            bar.advance(len(scenes))
            if stop.is_set():
                raise KeyboardInterrupt


def world_of(settings: SceneSettings) -> dict[str, Any]:
    """What a table of scenes notes of its world, as JSON can hold it."""
    return {
        "label_names": [thing.name for thing in settings.things],
        "templates": list(TEMPLATES),
        "colours": list(settings.colours),
        "textures": list(settings.textures),
        "sizes": list(SIZES),
        "backgrounds": list(settings.backgrounds),
        "unseen_pairs": [
            f"{settings.colours[colour]} {settings.things[label].name}" for label, colour in unseen_pairs(settings)
        ],
        "settings": asdict(settings),
    }


def source_of(settings: SceneSettings) -> str:
    """The world in a line: how many, the seed, the size, and every dial that is not at its default."""
    always, usual = ("num", "seed", "size_px"), SceneSettings()
    dials = [
        f"{dial.name}={getattr(settings, dial.name)}"
        for dial in fields(settings)
        if dial.name in always or getattr(settings, dial.name) != getattr(usual, dial.name)
    ]
    return f"scenes, {', '.join(dials)}"


def _missing(settings: SceneSettings, written: KeySet) -> Iterator[Piece]:
    """What is still to be drawn, in order."""
    for split, size in split_sizes(settings).items():
        for start in range(0, size, CHUNK):
            chunk = range(start, min(start + CHUNK, size))
            indices = [index for index in chunk if key_of(split, index) not in written]
            if indices:
                yield split, indices


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; where signals cannot be had (in threads), nothing sets it.

    Raises:
        KeyboardInterrupt: at a second signal; and at the end, where the one came too late for anyone to look.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_set():
        raise KeyboardInterrupt
