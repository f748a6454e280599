"""What models can be asked, and by which tasks: two towers, models of one stream, detectors."""

from __future__ import annotations

from diptych.errors import UsageError
from diptych.tasks.answering import Answerer
from diptych.tasks.detection import Detector
from diptych.tasks.encoder import Towers
from diptych.tasks.matcher import Matcher
from diptych.tasks.referring import Pointer

NAMES = ("retrieval", "zero_shot", "linear_probe", "choices", "matching", "answers", "referring", "detection")
OF_TOWERS = ("retrieval", "zero_shot", "linear_probe", "choices")
OF_DETECTORS = ("detection",)
OF_MATCHERS = ("retrieval", "choices", "matching", "answers", "referring")
"""What models of two towers, detectors, and models that read text and regions at once are asked."""
READS_BOTH = "a model that reads text and regions at once"
Asking = Towers | Matcher | Detector
"""What can be asked."""


def as_towers(model: Asking, task: str) -> Towers:
    """The model, where it has two towers; else UsageError."""
    if not isinstance(model, Towers):
        raise _unfit(model, task, "a model with two towers")
    return model


def as_matcher(model: Asking, task: str) -> Matcher:
    """The model, where it reads text and regions at once; else UsageError."""
    if not isinstance(model, Matcher):
        raise _unfit(model, task, READS_BOTH)
    return model


def as_answerer(model: Asking, task: str) -> Answerer:
    """The model, where it answers questions; else UsageError."""
    if not isinstance(model, Answerer):
        raise _unfit(model, task, READS_BOTH)
    return model


def as_pointer(model: Asking, task: str) -> Pointer:
    """The model, where it says which region is meant; else UsageError."""
    if not isinstance(model, Pointer):
        raise _unfit(model, task, READS_BOTH)
    return model


def as_detector(model: Asking, task: str) -> Detector:
    """The model, where it finds objects; else UsageError."""
    if not isinstance(model, Detector):
        raise _unfit(model, task, "a detector")
    return model


def _unfit(model: Asking, task: str, wanted: str) -> UsageError:
    return UsageError(f"{task} is asked of {wanted}, and {_kind(model)}")


def _kind(model: Asking) -> str:
    """What a model is, and what it can be asked."""
    match model:
        case Detector():
            return f"{model.name} is a detector; choose of {', '.join(OF_DETECTORS)}"
        case Matcher():
            return f"{model.name} is {READS_BOTH}; choose of {', '.join(OF_MATCHERS)}"
        case _:
            return f"{model.name} has two towers; choose of {', '.join(OF_TOWERS)}"
