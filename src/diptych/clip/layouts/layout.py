"""What all layouts share: reading their JSON strictly, and which models they can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.clip.model import ClipConfig
from diptych.errors import WeightsError

HOW_TO_SAY = (
    "say which model it is: diptych.load(SOURCE, config=RECIPE), or `diptych weights convert SOURCE OUT --to diptych "
    "--config RECIPE`, with the name of a recipe such as vit_h_14 or a JSON file of the model's settings"
)
"""What to do about weights that do not say what model they are of."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WeightsError: the file is missing or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name}; what it says cannot be seen in the weights and is not guessed. Put it "
            f"there, or {HOW_TO_SAY}"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds {type(found).__name__}; expected an object with settings")
    return found


def take(found: Mapping[str, Any], defaults: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of `defaults` as `found` has them.

    Args:
        found: settings as published.
        defaults: those that we read, with what their library takes where they are left out.
        fixed: those for which we have one value only.
        where: the file and part, for messages.
    Raises:
        WeightsError: a setting is of neither kind, or has another value than the one we have.
    """
    for name, value in found.items():
        if name not in defaults and (name not in fixed or fixed[name] != value):
            expected = f"; only {fixed[name]!r} is possible here" if name in fixed else ", which is not known here"
            raise WeightsError(f"{where}: {name} is {value!r}{expected}. This is not one of CLIP's own architectures")
    return {name: found.get(name, default) for name, default in defaults.items()}


def mlp_ratio(width: int, mlp_width: int) -> float:
    """The ratio of which `int(width * ratio)` is `mlp_width`, also where the plain quotient is rounded down."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else math.nextafter(ratio, math.inf)


def check_transformer(config: ClipConfig, layout: str) -> None:
    """Whether others' code can run the text tower.

    Raises:
        WeightsError: it cannot.
    """
    if config.text != "transformer" or config.text_pool != "end" or not config.causal:
        raise WeightsError(
            f"{layout} cannot hold this text tower ({config.text}, pool {config.text_pool}, causal {config.causal}): "
            "its own is a causal transformer that is read at the end token"
        )
