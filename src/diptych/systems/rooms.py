"""Names to rooms and objectives: a visible match for each, with the imports inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diptych.errors import UsageError, unknown

if TYPE_CHECKING:
    from torch import nn

    from diptych.data.batch import Inputs
    from diptych.data.tokenizers import Tokenizer
    from diptych.objectives.objective import Objective
    from diptych.train.run import InputSettings, Run

NAMES = ("clip",)
OBJECTIVES = ("contrastive",)


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a room gives to the floors: its four files as values."""

    config: type[Any]
    """The frozen dataclass of the model's sizes."""
    model: Callable[[Any], nn.Module]
    inputs: Callable[[Any, InputSettings, Tokenizer], Inputs]
    recipes: tuple[str, ...]
    recipe: Callable[[str], Run]


def room(system: str) -> Room:
    """The room of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match system:
        case "clip":
            from diptych.clip import recipes
            from diptych.clip.inputs import ClipInputs
            from diptych.clip.model import CLIP, ClipConfig

            return Room(config=ClipConfig, model=CLIP, inputs=ClipInputs, recipes=recipes.NAMES, recipe=recipes.named)
        case _:
            raise UsageError(unknown("system", system, NAMES))


def objective_class(name: str) -> type[Objective]:
    """The objective of that name, a frozen dataclass.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "contrastive":
            from diptych.objectives.contrastive import Contrastive

            return Contrastive
        case _:
            raise UsageError(unknown("objective", name, OBJECTIVES))


def recipes(system: str) -> tuple[str, ...]:
    """Names of a system's recipes."""
    return room(system).recipes


def recipe(system: str, name: str) -> Run:
    """One of a system's recipes.

    Raises:
        UsageError: there is no such system or recipe; the nearest is suggested.
    """
    return room(system).recipe(name)
