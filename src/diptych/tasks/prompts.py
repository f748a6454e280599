"""Templates that turn a class's name into texts: the published sets, or one's own.

CLIP, arXiv:2103.00020, section 3.1.4; the sets are those of the release's `data/prompts.md`.
"""

from __future__ import annotations

from pathlib import Path

from diptych.data.word_list import read_lines
from diptych.errors import DataError, UsageError, unknown

DEFAULT = "photo"
NAMES = (
    "name",
    "photo",
    "mnist",
    "rendered_sst2",
    "hateful_memes",
    "ucf101",
    "kinetics700",
    "country211",
    "food101",
    "stanford_cars",
    "fgvc_aircraft",
    "oxford_pets",
    "flowers102",
    "birdsnap",
)
"""Sets by name: `name` is the bare name, `photo` the paper's plain one; the others are those of the data sets."""

MEDIA = ("photo", "video", "example", "demonstration")
VERBS = ("", "using ", "doing ", "during ", "performing ", "practicing ")
OWN_CARS = ("a", "the", "my", "my dirty", "my clean", "my new", "my old")
COUNTRY = (
    "i took in",
    "i took while visiting",
    "from my home country of",
    "from my visit to",
    "showing the country of",
)


def templates(name: str) -> tuple[str, ...]:
    """The templates of a set; `{}` stands for the class's name.

    Raises:
        UsageError: there is no such set; the nearest name is told.
    """
    match name:
        case "name":
            return ("{}",)
        case "photo":
            return ("a photo of a {}.",)
        case "mnist":
            return ('a photo of the number: "{}".',)
        case "rendered_sst2":
            return ("a {} review of a movie.",)
        case "hateful_memes":
            return ("a {}.",)
        case "ucf101":
            people = ("a person", "the person")
            return tuple(f"a {m} of {p} {v}{{}}." for m in MEDIA for p in people for v in VERBS)
        case "kinetics700":
            subjects = ("", *(f"a person {verb}" for verb in VERBS))
            return tuple(f"a {medium} of {subject}{{}}." for medium in MEDIA for subject in subjects)
        case "country211":
            return tuple(f"a photo {phrase} {{}}." for phrase in COUNTRY)
        case "food101":
            return ("a photo of {}, a type of food.",)
        case "stanford_cars":
            return (*(f"a photo of {own} {{}}." for own in OWN_CARS), "i love my {}!")
        case "fgvc_aircraft":
            return tuple(f"a photo of {article} {{}}, a type of aircraft." for article in ("a", "the"))
        case "oxford_pets":
            return ("a photo of a {}, a type of pet.",)
        case "flowers102":
            return ("a photo of a {}, a type of flower.",)
        case "birdsnap":
            return ("a photo of a {}, a type of bird.",)
        case _:
            raise UsageError(unknown("set of templates", name, NAMES))


def find_templates(asked: str) -> tuple[str, ...]:
    """What a person asked for: a template with `{}` in it, a file with one a line, or a set by name.

    Raises:
        UsageError: it is none of these.
        DataError: a line of the file has no `{}`.
    """
    if "{}" in asked:
        return (asked,)
    if not Path(asked).is_file():
        return templates(asked)
    lines = tuple(line for line in read_lines(Path(asked)) if line)
    for line in lines:
        if "{}" not in line:
            raise DataError(f"{asked}: the template {line!r} has no {{}} where the class's name shall stand")
    if not lines:
        raise DataError(f"{asked} is empty; expected one template a line, e.g. a photo of a {{}}.")
    return lines


def fill(template: str, name: str) -> str:
    """The text for one class; only `{}` is replaced, other braces stay."""
    return template.replace("{}", name)
