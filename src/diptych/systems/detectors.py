"""Names to detectors of regions: `windows:runs/first` and its sisters, and open tags by a CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diptych.errors import UsageError, WeightsError, unknown
from diptych.overrides import apply_overrides
from diptych.progress import SILENT, Progress

if TYPE_CHECKING:
    from diptych.data.regions import RegionDetector
    from diptych.detector.selection import Rule
    from diptych.prepare.presets import Preset
    from diptych.prepare.windows import Layout
    from diptych.tasks.encoder import DualEncoder

NAMES = ("butd", "own", "windows", "grid")
OVER_A_CLIP = ("windows", "grid")
"""Those that look through a CLIP's image tower, which can name what it sees."""
EXPECTED = (
    "butd:PATH, where the weights of bottom-up attention lie or what the hub calls them; own:RUN, a detector that "
    "`diptych regions train` made; or windows:CLIP or grid:CLIP, where CLIP is a run or what else `diptych.load` reads"
)
FINDING = ("rule", "min_boxes", "max_boxes", "confidence", "box_kind", "scales", "side")
"""Settings that say which boxes there are."""


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """What may be set of a detector that finds things; None: as the preset has it, else as its release."""

    rule: str | None = None
    """The rule of selection: butd, lxmert or notebook."""
    min_boxes: int | None = None
    max_boxes: int | None = None
    confidence: float | None = None
    """What the rules butd and notebook take for sure."""
    box_kind: Literal["proposal", "regressed"] | None = None
    """Which box is written; the feature is always the proposal's."""
    classes: str | None = None
    """A file with the names of the classes, one a line, for weights that have none beside them."""
    attributes: str | None = None
    """Likewise."""


@dataclass(frozen=True, kw_only=True)
class NamedDetector:
    """A detector, and what it goes by on the command line."""

    name: str
    """One of NAMES."""
    source: str
    """What stands behind the colon."""
    detector: RegionDetector
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Tensors and settings of published weights that were left out, with the reason of each."""
    notes: tuple[str, ...] = ()
    """What else there is to know of them."""


def named_detector(
    words: str,
    *,
    preset: Preset | None = None,
    settings: Sequence[str] = (),
    boxes_given: bool = False,
    soft_labels: bool = False,
    device: str = "auto",
) -> NamedDetector:
    """The detector that `words` name.

    Args:
        words: a name, a colon, and where its weights lie.
        preset: whose rule of selection a detector follows; windows have none.
        settings: FIELD=VALUE, of `DetectorSettings`, or of the layout of windows.
        boxes_given: whether it will be asked about given boxes alone.
        soft_labels: whether regions have the whole softmax over the classes.
        device: see `resolve_device`.
    Raises:
        UsageError: there is no such detector or setting; the nearest is suggested. Or a setting is of no use.
        WeightsError: the weights are of something else.
    """
    name, colon, source = words.partition(":")
    if name not in NAMES:
        raise UsageError(f"{unknown('detector', name, NAMES)}. Expected {EXPECTED}")
    if not colon or not source:
        raise UsageError(f"the detector {words!r} says no weights; expected {EXPECTED}")
    if soft_labels and name in OVER_A_CLIP:
        raise UsageError(f"{name} have no classes of their own, and so no soft labels; leave --soft-labels out")
    idle = [one for one in settings if boxes_given and one.partition("=")[0].strip() in FINDING]
    if idle:
        raise UsageError(
            f"--set {idle[0]} says which boxes are found, and with --boxes those of the column are taken; leave one of "
            "them out"
        )
    _check_run(name, source)
    if name == "butd":
        return _bottom_up(source, preset, apply_overrides(DetectorSettings(), settings), soft_labels, device)
    return NamedDetector(name=name, source=source, detector=_loaded(name, source, preset, settings, device))


def _check_run(name: str, source: str) -> None:
    """Refuses a run that another of NAMES takes, or none.

    Raises:
        WeightsError: saying which.
    """
    from diptych.systems.runs import read_run
    from diptych.train.folder import holds_run

    if not holds_run(Path(source)):
        return
    system = read_run(Path(source)).system
    fitting = {"detector": ("own",), "clip": OVER_A_CLIP}.get(system, ())
    if name not in fitting:
        told = " or ".join(f"--detector {one}:{source}" for one in fitting)
        raise WeightsError(f"{source} is a run of {system}, not for {name}:; expected {told or EXPECTED}")


def _loaded(name: str, source: str, preset: Preset | None, settings: Sequence[str], device: str) -> RegionDetector:
    match name:
        case "own":
            return _own(source, preset, apply_overrides(DetectorSettings(), settings), device)
        case "windows":
            from diptych.prepare.windows import Windows

            return _over_a_tower(source, apply_overrides(Windows(), settings), device)
        case "grid":
            from diptych.prepare.windows import Grid

            return _over_a_tower(source, apply_overrides(Grid(), settings), device)
        case _:
            raise UsageError(unknown("detector", name, NAMES))


def _bottom_up(
    source: str, preset: Preset | None, settings: DetectorSettings, soft_labels: bool, device: str
) -> NamedDetector:
    from diptych.data.word_list import read_vocabulary
    from diptych.detector.bottom_up import BottomUpAttention
    from diptych.detector.weights import read_weights
    from diptych.train.device import resolve_device

    where = resolve_device(device)
    classes, attributes = (
        () if file is None else read_vocabulary(Path(file)) for file in (settings.classes, settings.attributes)
    )
    release = read_weights(source, classes=classes, attributes=attributes)
    detector = BottomUpAttention(
        release,
        _rule(release.rule, preset, settings),
        box_kind=settings.box_kind,
        soft_labels=soft_labels,
        device=where,
    )
    return NamedDetector(name="butd", source=source, detector=detector, ignored=release.ignored, notes=release.notes)


def _own(source: str, preset: Preset | None, settings: DetectorSettings, device: str) -> RegionDetector:
    from diptych.detector.selection import ButdRule
    from diptych.systems.loading import load_detector

    if settings.classes is not None or settings.attributes is not None:
        raise UsageError(f"{source} knows the names of its classes and attributes; leave these settings out")
    rule = _rule(ButdRule(), preset, settings)
    return load_detector(source, device, rule=rule, box_kind=settings.box_kind)


def _rule(released: Rule, preset: Preset | None, settings: DetectorSettings) -> Rule:
    """The release's rule, the preset's before it, and what is set before both."""
    from diptych.detector.selection import rule_class

    rule: Any = released
    if settings.rule is not None:
        rule = rule_class(settings.rule)()
    elif preset is not None:
        rule = rule_class(preset.rule)()
    if preset is not None:
        rule = replace(rule, min_boxes=preset.min_boxes, max_boxes=preset.max_boxes)
    numbers = {"min_boxes": settings.min_boxes, "max_boxes": settings.max_boxes, "confidence": settings.confidence}
    asked = {name: value for name, value in numbers.items() if value is not None}
    known = {one.name for one in fields(rule)}
    for name in asked.keys() - known:
        raise UsageError(f"the rule {rule} has no {name}; its numbers are {', '.join(sorted(known))}")
    return replace(rule, **asked)


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
        clip: a run or what else `load_towers` reads.
        word_list: one word or phrase a line, or JSON as ["dog", "cat"].
        template: as `tasks.prompts.find_templates` takes it.
        device: see `resolve_device`.
        progress: where the encoding of the words is drawn.
    Raises:
        DataError: the list cannot be read.
        UsageError: a word stands in it twice.
    """
    from diptych.prepare.naming import NamedRegions
    from diptych.systems.loading import load_towers
    from diptych.tasks.prompts import find_templates
    from diptych.tasks.zero_shot import class_vectors

    names, templates = words_of(word_list), find_templates(template)
    encoder = load_towers(clip, device)
    return NamedRegions(
        detector,
        encoder.encode_image,
        [mine[0] for mine in names],
        class_vectors(encoder, names, templates, progress=progress),
        scale=encoder.scale,
        hash=_hash(encoder),
    )


def words_of(word_list: Path) -> tuple[tuple[str, ...], ...]:
    """The names of each class in a list that regions can be named from.

    Raises:
        DataError: the list cannot be read.
        UsageError: a word stands in it twice.
    """
    from diptych.data.word_list import read_word_list
    from diptych.prepare.naming import check_words

    names = read_word_list(word_list)
    check_words([mine[0] for mine in names])
    return names


def _over_a_tower(source: str, layout: Layout, device: str) -> RegionDetector:
    from diptych.prepare.windows import ImageTower, TowerRegions
    from diptych.systems.loading import load_towers

    encoder = load_towers(source, device)
    model: Any = encoder.model
    tower = ImageTower(
        name=f"CLIP's {model.config.image} tower", hash=_hash(encoder), feature_maps=encoder.feature_maps
    )
    return TowerRegions(tower, layout)


def _hash(encoder: DualEncoder) -> str:
    from diptych.checkpoint.hashing import weights_hash

    model: Any = encoder.model
    return weights_hash(model.state_dict(), model.config)
