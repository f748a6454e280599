"""Bottom-up attention's published weights, described and converted: no recipe trains them, and no run holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diptych.detector.inputs import Preprocessing
from diptych.detector.model import DetectorConfig
from diptych.detector.weights import Release, read_weights, write_release
from diptych.errors import WeightsError
from diptych.overrides import from_plain
from diptych.systems.trained import json_object


@dataclass(frozen=True, kw_only=True)
class BottomUpSettings:
    """What such weights say of themselves."""

    model: DetectorConfig
    preprocessing: Preprocessing
    rule: str
    """Of selection, that of the release, with its numbers."""
    classes: tuple[str, ...]
    """Names, where the source has them."""
    attributes: tuple[str, ...]


def read_release(
    path: Path, config: str | Path | None, *, classes: tuple[str, ...] = (), attributes: tuple[str, ...] = ()
) -> Release:
    """The weights with all that they say.

    Args:
        path: file or folder.
        config: a JSON file of `DetectorConfig`'s fields, for weights of other sizes than the release's.
        classes: names, for a source without.
        attributes: likewise.
    Raises:
        UsageError: the config cannot be read, or has other fields.
        WeightsError: see `read_weights`.
    """
    sizes = None if config is None else from_plain(DetectorConfig, json_object(Path(config)), "model.")
    return read_weights(path, sizes, classes=classes, attributes=attributes)


def settings_of(release: Release) -> BottomUpSettings:
    """All but the weights."""
    return BottomUpSettings(
        model=release.config,
        preprocessing=release.preprocessing,
        rule=str(release.rule),
        classes=release.classes,
        attributes=release.attributes,
    )


def convert_release(release: Release, out: Path, layout: str) -> list[str]:
    """Writes a folder of ours, and says what the user should know of it, a sentence each.

    Raises:
        WeightsError: another layout is asked for.
    """
    if layout != "diptych":
        raise WeightsError(f"bottom-up attention is written as diptych alone, found {layout!r}; pass --to diptych")
    write_release(out, release)
    return [f"{note[0].upper()}{note[1:]}." for note in (*release.notes, *_unnamed(release))]


def _unnamed(release: Release) -> list[str]:
    names: Mapping[str, tuple[str, ...]] = {"classes": release.classes, "attributes": release.attributes}
    numbers = {"classes": release.config.num_classes, "attributes": release.config.num_attributes}
    return [
        f"the {numbers[what]:,} {what} have no names, as in all published files; convert with --{what} FILE"
        for what, known in names.items()
        if numbers[what] and not known
    ]
