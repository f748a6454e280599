"""The detector's published weights, read under our names and in our order of classes; and our own folders of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from diptych.checkpoint.files import damage_in, write_sums, write_whole
from diptych.checkpoint.foreign import read_tensors, write_tensors
from diptych.checkpoint.hashing import weights_hash
from diptych.checkpoint.hub import download_first
from diptych.checkpoint.pickled_arrays import read_pickled_arrays
from diptych.detector.inputs import DETECTRON2, Preprocessing
from diptych.detector.layouts import detectron2, lxmert
from diptych.detector.model import C4Detector, DetectorConfig
from diptych.detector.selection import LxmertRule, Rule, rule_class
from diptych.errors import UsageError, WeightsError, neighbour
from diptych.nn.unfilled import unfilled
from diptych.overrides import from_plain, to_plain

Layout = Literal["diptych", "lxmert", "detectron2"]
FORMAT = 1
CONFIG_FILE = "detector.json"
WEIGHTS_FILE = "model.safetensors"
PICKLES = (".pkl", ".pickle")
SUFFIXES = (*PICKLES, ".pth", ".pt", ".bin", ".safetensors")
EXPECTED = (
    f"a folder of ours ({CONFIG_FILE}), the LXMERT port's ({lxmert.CONFIG_FILE}, {lxmert.WEIGHTS_FILE}) or its name on "
    f"the hub, or a file of the detectron2 port ({', '.join(SUFFIXES)})"
)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A trained detector: everything that its numbers depend on."""

    config: DetectorConfig
    preprocessing: Preprocessing
    state: Mapping[str, Tensor]
    """For `C4Detector(config)`; float32, background and "no attribute" first, whatever order the source has."""
    classes: tuple[str, ...] = ()
    """C names, or none."""
    attributes: tuple[str, ...] = ()
    """A names, or none."""
    rule: Rule = field(default_factory=LxmertRule)
    """That of the release."""
    source: str
    """Where it was read from, with its layout and its own order of classes."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Tensors and settings of the source that were left out, with the reason of each."""
    notes: tuple[str, ...] = ()
    """What somebody who converts it should know."""

    def fingerprint(self) -> str:
        """SHA-256 of the weights, the config and the preprocessing."""
        return weights_hash(self.state, self.config, self.preprocessing)


def identify(source: Path) -> Layout | None:
    """Whose layout a file or folder has, by its names alone; None for none of a detector's."""
    if source.is_file():
        return "detectron2" if source.suffix in SUFFIXES else None
    if (source / CONFIG_FILE).is_file():
        return "diptych"
    return "lxmert" if (source / lxmert.WEIGHTS_FILE).is_file() and (source / lxmert.CONFIG_FILE).is_file() else None


def is_bottom_up(source: Path) -> bool:
    """Whether a file or folder holds bottom-up attention: of a file, by the names of its tensors."""
    layout = identify(source)
    if layout != "detectron2" or source.suffix in PICKLES:
        return layout is not None
    try:
        return detectron2.STEM in read_tensors(source)
    except WeightsError:
        return False


def read_weights(
    source: str | Path,
    config: DetectorConfig | None = None,
    *,
    classes: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
) -> Release:
    """A detector out of what others published, or of a folder of ours.

    Args:
        source: file or folder; or a name on the hub, which is fetched then.
        config: for a file that says nothing but its tensors, where its sizes are not the release's.
        classes: names in the order of foreground classes, where the source has none: see `data.word_list`.
        attributes: names, likewise.
    Raises:
        WeightsError: it is of no known layout, damaged, of another network, or the names are too few or too many.
    """
    path = _found(source)
    match identify(path):
        case "diptych":
            return _named(_read_folder(path), classes, attributes)
        case "lxmert":
            settings = lxmert.read_folder_settings(path)
            theirs = read_tensors(path / lxmert.WEIGHTS_FILE)
            config = settings.config if config is None else config
            release = _of_theirs(theirs, config, settings.preprocessing, settings.rule, str(source), "lxmert")
            release = replace(release, ignored={**settings.ignored, **release.ignored})
        case "detectron2":
            theirs = read_pickled_arrays(path) if path.suffix in PICKLES else read_tensors(path)
            config = detectron2.infer_config(theirs, str(path)) if config is None else config
            release = _of_theirs(theirs, config, DETECTRON2, detectron2.RULE, str(source), "detectron2")
        case None:
            raise WeightsError(f"{source} holds no detector that is known here; expected {EXPECTED}")
    return _named(release, classes, attributes)


def write_release(folder: Path, release: Release) -> None:
    """Writes a folder that `read_weights` reads: settings, names and origin in JSON beside safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS_FILE, {name: tensor.contiguous() for name, tensor in release.state.items()})
    rule = {"name": str(release.rule).partition("(")[0], **to_plain(release.rule)}
    told = {
        "format": FORMAT,
        "model": to_plain(release.config),
        "preprocessing": to_plain(release.preprocessing),
        "rule": rule,
        "class_order": "background first",
        "classes": release.classes,
        "attributes": release.attributes,
        "source": release.source,
    }
    write_whole(folder / CONFIG_FILE, json.dumps(told, indent=2) + "\n")
    write_sums(folder, (CONFIG_FILE, WEIGHTS_FILE))


def _of_theirs(
    theirs: Mapping[str, Tensor],
    config: DetectorConfig,
    preprocessing: Preprocessing,
    rule: Rule,
    source: str,
    layout: Layout,
) -> Release:
    """A detector of tensors under the ports' names."""
    ours = unfilled(C4Detector, config)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    if detectron2.ANCHORS not in theirs:  # pickles have none: those of the config it is
        theirs = {**theirs, detectron2.ANCHORS: ours.rpn.cell_anchors}
    state = {name: tensor.float() for name, tensor in detectron2.KEYS.to_ours(theirs, shapes, source).items()}
    notes = detectron2.check_anchors(state, ours.rpn.cell_anchors, source)
    _check_finite(state, source)
    return Release(
        config=config,
        preprocessing=preprocessing,
        state=detectron2.background_first(state),
        rule=rule,
        source=f"{source} ({layout}, background last)",
        ignored=detectron2.KEYS.ignored(theirs),
        notes=notes,
    )


def _read_folder(folder: Path) -> Release:
    damage = damage_in(folder)
    if damage is not None:
        raise WeightsError(f"{folder} is not as it was written: {damage}; convert the weights again")
    told = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if not isinstance(told.get("format"), int) or told["format"] > FORMAT:
        raise WeightsError(
            f"{folder} has format {told.get('format')}; this diptych reads up to {FORMAT}. Update diptych"
        )
    try:
        rule = {name: value for name, value in told["rule"].items() if name != "name"}
        release = Release(
            config=from_plain(DetectorConfig, told["model"], "model."),
            preprocessing=from_plain(Preprocessing, told["preprocessing"], "preprocessing."),
            state=read_tensors(folder / WEIGHTS_FILE),
            classes=tuple(told["classes"]),
            attributes=tuple(told["attributes"]),
            rule=from_plain(rule_class(told["rule"]["name"]), rule, "rule."),
            source=told["source"],
        )
    except (KeyError, UsageError) as error:
        raise WeightsError(f"{folder / CONFIG_FILE}: {error}") from error
    return release


def _named(release: Release, classes: tuple[str, ...], attributes: tuple[str, ...]) -> Release:
    """The release with names, as many as it has classes and attributes."""
    classes, attributes = classes or release.classes, attributes or release.attributes
    for what, names, number in (
        ("class", classes, release.config.num_classes),
        ("attribute", attributes, release.config.num_attributes),
    ):
        if names and len(names) != number:
            raise WeightsError(
                f"{len(names)} {what} names for {release.source}, which has {number}, background not counted; check "
                "that the vocabulary is that of these weights"
            )
    return replace(release, classes=classes, attributes=attributes)


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    bad = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise WeightsError(f"{source}: {len(bad)} tensors are not finite, the first is {bad[0]}; get the file again")


def _found(source: str | Path) -> Path:
    """The file or folder; where there is none, the folder of the hub's model of that name."""
    path = Path(source)
    if path.exists():
        return path
    if not _HUB_NAME.fullmatch(str(source)) or path.suffix in SUFFIXES or path.parent.is_dir():
        raise WeightsError(f"there is no file or folder {source}{neighbour(path) or '.'} Expected {EXPECTED}")
    download_first(str(source), (lxmert.WEIGHTS_FILE,))
    return download_first(str(source), (lxmert.CONFIG_FILE,)).parent
