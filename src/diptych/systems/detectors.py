"""Names to detectors of regions: `windows:runs/first` and its sisters, and open tags by a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import UsageError, unknown
from diptych.progress import SILENT, Progress

if TYPE_CHECKING:
    from diptych.data.regions import RegionDetector
    from diptych.prepare.presets import Preset
    from diptych.prepare.windows import Layout
    from diptych.tasks.encoder import DualEncoder

NAMES = ("windows", "grid")
OVER_A_CLIP = ("windows", "grid")
"""Those that look through a CLIP's image tower, which can name what it sees."""
EXPECTED = "windows:CLIP or grid:CLIP, where CLIP is a run or what else `diptych.load` reads"


@dataclass(frozen=True, kw_only=True)
class NamedDetector:
    """A detector, and what it goes by on the command line."""

    name: str
    """One of NAMES."""
    source: str
    """What stands behind the colon."""
    detector: RegionDetector


def load_detector(
    words: str,
    *,
    preset: Preset | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> NamedDetector:
    """The detector that `words` name.

    Args:
        words: a name, a colon, and where its weights lie.
        preset: whose rule of selection a detector follows; windows have none.
        settings: FIELD=VALUE, of the windows' layout.
        device: see `resolve_device`.
    Raises:
        UsageError: there is no such detector or setting; the nearest is suggested.
        WeightsError: the weights are of something else.
    """
    name, colon, source = words.partition(":")
    if name not in NAMES:
        raise UsageError(f"{unknown('detector', name, NAMES)}. Expected {EXPECTED}")
    if not colon or not source:
        raise UsageError(f"the detector {words!r} says no weights; expected {EXPECTED}")
    return NamedDetector(name=name, source=source, detector=_loaded(name, source, preset, settings, device))


def _loaded(name: str, source: str, preset: Preset | None, settings: Sequence[str], device: str) -> RegionDetector:
    match name:
        case "windows":
            from diptych.overrides import apply_overrides
            from diptych.prepare.windows import Windows

            return _over_a_tower(source, apply_overrides(Windows(), settings), device)
        case "grid":
            from diptych.overrides import apply_overrides
            from diptych.prepare.windows import Grid

            return _over_a_tower(source, apply_overrides(Grid(), settings), device)
        case _:
            raise UsageError(unknown("detector", name, NAMES))


def name_regions(
    detector: RegionDetector,
    clip: str,
    word_list: Path,
    *,
    template: str = "photo",
    device: str = "auto",
    progress: Progress = SILENT,
) -> RegionDetector:
    """The same detector, whose classes are the words of a list, as a CLIP sees them.

    Args:
        detector: whose regions are named.
        clip: a run or what else `load` reads.
        word_list: one word or phrase a line, or JSON as ["dog", "cat"].
        template: as `tasks.prompts.find_templates` takes it.
        device: see `resolve_device`.
        progress: where the encoding of the words is drawn.
    Raises:
        DataError: the list cannot be read.
        UsageError: a word stands in it twice.
    """
    from diptych.prepare.naming import NamedRegions
    from diptych.systems.loading import load
    from diptych.tasks.prompts import find_templates, read_class_names
    from diptych.tasks.zero_shot import class_vectors

    names, templates = read_class_names(word_list), find_templates(template)
    encoder = load(clip, device)
    return NamedRegions(
        detector,
        encoder.encode_image,
        [mine[0] for mine in names],
        class_vectors(encoder, names, templates, progress=progress),
        scale=encoder.scale,
        hash=_hash(encoder),
    )


def _over_a_tower(source: str, layout: Layout, device: str) -> RegionDetector:
    from diptych.prepare.windows import ImageTower, TowerRegions
    from diptych.systems.loading import load

    encoder = load(source, device)
    model: Any = encoder.model
    tower = ImageTower(
        name=f"CLIP's {model.config.image} tower", hash=_hash(encoder), feature_maps=encoder.feature_maps
    )
    return TowerRegions(tower, layout)


def _hash(encoder: DualEncoder) -> str:
    from diptych.checkpoint.hashing import weights_hash

    model: Any = encoder.model
    return weights_hash(model.state_dict(), model.config)
