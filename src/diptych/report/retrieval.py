"""Everything that a report shows of a retrieval, in the order in which one wants to see it."""

from __future__ import annotations

from collections.abc import Callable

from diptych.progress import SILENT, Progress
from diptych.report.calibration import calibration
from diptych.report.curves import recall_at_every_k
from diptych.report.embedding_map import embedding_map
from diptych.report.found import Found
from diptych.report.grids import found_for_pictures, found_for_texts, texts_by_pictures
from diptych.report.mistakes import confused_pairs, hardest_failures, nearest_wrong
from diptych.report.page import Section, missing


def retrieval_sections(found: Found, *, seed: int = 0, progress: Progress = SILENT) -> list[Section]:
    """Curve, grids, mistakes, calibration and map.

    Args:
        found: what was ranked.
        seed: of what is drawn: texts, pictures, points of the map.
        progress: where the work is drawn.
    """
    if not (found.image.isfinite().all() and found.text.isfinite().all()):
        how = "What the model finds for texts and for pictures."
        return [missing("Found", how, "the model's vectors are not finite numbers, so nothing can be ranked by them.")]
    confusions = nearest_wrong(found)
    parts: list[Callable[[], Section]] = [
        lambda: recall_at_every_k(found),
        lambda: found_for_texts(found, seed=seed),
        lambda: found_for_pictures(found, seed=seed),
        lambda: texts_by_pictures(found, seed=seed),
        lambda: confused_pairs(found, confusions),
        lambda: hardest_failures(found, confusions),
        lambda: calibration(found),
        lambda: embedding_map(found, seed=seed),
    ]
    sections = []
    with progress.bar("drawing the report", total=len(parts), unit="parts") as bar:
        for make in parts:
            sections.append(make())
            bar.advance()
    return sections
