"""What went wrong in words for users: what was found, what was expected, what to do."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


class DiptychError(Exception):
    """A user's mistake or a fault in their files. The command line prints it without a traceback."""

    exit_code = 1


class UsageError(DiptychError):
    """The command itself is off: an unknown name, option, setting or recipe."""

    exit_code = 2


class DataError(DiptychError):
    """A table or a source of pictures and texts is not what it should be."""


class WeightsError(DiptychError):
    """A file of weights does not fit, is damaged, or is of no known kind."""


class CheckpointError(DiptychError):
    """A checkpoint of a run is damaged or was written by a newer diptych."""


class RunExistsError(DiptychError):
    """The output folder holds something already."""


class ShapeError(DiptychError):
    """Tensors handed to a public function disagree in shape."""


class MissingExtraError(DiptychError):
    """An optional dependency is not installed."""


class TrainingError(DiptychError):
    """Training cannot go on, for instance because the loss is no longer finite."""


class OutOfMemoryError(TrainingError):
    """A step needs more memory than there is."""


class InterruptedRunError(DiptychError):
    """The user stopped the work; what was done is kept."""

    exit_code = 130


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that a person who typed `name` most likely meant, or None."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def neighbour(path: Path) -> str:
    """For a path that is not there: "; did you mean photos/cats?" where something beside it has nearly its name."""
    if not path.parent.is_dir():
        return ""
    guess = nearest(path.name, (other.name for other in path.parent.iterdir()))
    return f"; did you mean {path.parent / guess}?" if guess is not None else ""


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """A message for a name that is not one of `names`: what was found, what there is, what was likely meant.

    >>> unknown("recipe", "tinny", ["tiny", "vit_b_32"])
    "there is no recipe 'tinny'; did you mean 'tiny'? There are: tiny, vit_b_32"
    """
    names = list(names)
    guess = nearest(name, names)
    hint = f"; did you mean {guess!r}?" if guess is not None else "."
    return f"there is no {kind} {name!r}{hint} There are: {', '.join(names) or 'none'}"


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Checks that an optional dependency is importable.

    Raises:
        MissingExtraError: with the pip line that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}; install it with: pip install 'diptych[{extra}]'"
        )
