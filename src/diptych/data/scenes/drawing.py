"""Drawing a whole world into a table, on one core or several, to the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from diptych.data.scenes.scene import COLUMNS, Scene, make_scene
from diptych.data.scenes.settings import SIZES, SceneSettings
from diptych.data.scenes.splits import split_sizes, unseen_pairs
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.progress import SILENT, Progress

TEMPLATES = ("a {}", "a picture of a {}", "a drawing of a {}")
"""What zero-shot classification puts a thing's name into: wordings that training texts have."""

CHUNK = 128
"""Scenes that a worker draws at a time."""

Chunk = tuple[str, int, int]


def draw_scenes(out: Path, settings: SceneSettings, *, progress: Progress = SILENT, workers: int = 1) -> None:
    """Draws the world of `settings` and writes it as the table `out`.

    Args:
        out: the folder that will be the table.
        settings: the world; see `easy` and `hard`.
        progress: told of every scene.
        workers: processes that draw; the table is the same for any number.
    Raises:
        RunExistsError: `out` is there already.
        DataError: a worker died.
    """
    writer = TableWriter(out, columns=COLUMNS, meta=world_of(settings), source=f"scenes, seed {settings.seed}")
    with writer, progress.bar("drawing scenes", settings.num, "scenes") as bar:
        for scenes in _drawn(settings, workers):
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


def _drawn(settings: SceneSettings, workers: int) -> Iterator[list[Scene]]:
    """All scenes in order, a chunk at a time."""
    chunks = iter(list(_chunks(settings)))
    if workers <= 1:
        yield from (_draw(settings, chunk) for chunk in chunks)
        return
    # Spawned, not forked: a fork of a process with threads (torch, pyarrow) can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        ahead: deque[Future[list[Scene]]] = deque(
            pool.submit(_draw, settings, chunk) for chunk in islice(chunks, 4 * workers)
        )
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(_draw, settings, chunk) for chunk in islice(chunks, 1))
        except BrokenProcessPool as error:
            raise DataError(
                f"a worker that drew scenes died ({error}); expected {workers} to live on. In a script, call "
                f"draw_scenes under `if __name__ == '__main__':`, or draw with workers=1"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(settings: SceneSettings) -> Iterator[Chunk]:
    for split, size in split_sizes(settings).items():
        for start in range(0, size, CHUNK):
            yield split, start, min(start + CHUNK, size)


def _draw(settings: SceneSettings, chunk: Chunk) -> list[Scene]:
    split, start, stop = chunk
    return [make_scene(settings, split, index) for index in range(start, stop)]
