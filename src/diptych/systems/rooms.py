"""Names to rooms and objectives: a visible match for each, with the imports inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import UsageError, WeightsError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diptych.checkpoint.keymap import PublishedWeights
    from diptych.data.batch import Batch, Inputs
    from diptych.data.table import Rows
    from diptych.objectives.objective import Objective
    from diptych.tasks.published import Published
    from diptych.train.imported import ImportedRun
    from diptych.train.run import InputSettings, Run

NAMES = ("clip", "uniter", "detector")
OBJECTIVES = (
    *("contrastive", "sigmoid", "captioning", "bag_of_words", "detection", "pretraining"),
    *("vqa", "ve", "nlvr2", "vcr", "re", "ranking", "hard_ranking"),
)


@dataclass(frozen=True, kw_only=True)
class RoomWeights:
    """What a room knows of weights that others published: its file weights.py as values."""

    identify: Callable[[Path], str | None]
    """Whose layout a file or folder has; None for none of the room's."""
    expected: str
    """What the room takes, in words."""
    read: Callable[[Path, Any], PublishedWeights[Any]]
    """A file or folder, and the config where it does not say one itself."""
    write: Callable[[Path, Any, Mapping[str, Tensor], Any], None]
    """A folder, config, state and layout."""
    fitted: Callable[[Mapping[str, Tensor], Any, Any], tuple[Mapping[str, Tensor], Any, tuple[str, ...]]]
    """State, its config and the one that is wanted -> the state as far as it can be fitted to that, its config then,
    and how the names of tensors begin that are to be drawn anew."""
    hub_files: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """The file on the hub that says the config -> groups of files, of each the first that is there is needed."""
    vocabulary: str = ""
    """The tokenizer of published models, as `inputs.tokenizer` names it."""
    more_words: bool = False
    """Whether published models may have embedded words that no vocabulary names."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a room gives to the floors: its four files as values."""

    config: type[Any]
    """The frozen dataclass of the model's sizes."""
    model: Callable[[Any], nn.Module]
    inputs: Callable[[Any, InputSettings, Any], Inputs]
    """Config, settings and the tokenizer, None where the room reads no text."""
    recipes: tuple[str, ...]
    recipe: Callable[[str], Run]
    weights: RoomWeights
    blank: Callable[[Any, int, int], Batch] | None = None
    """Config, rows and tokens of a text: a batch of these sizes with nothing in it. None where a model's cost is not
    known from shapes alone."""
    heads: Callable[[Mapping[str, Tensor], Any], nn.ModuleDict] | None = None
    """State and config -> the heads that the state has weights of, to be loaded with it. None where heads are for
    training alone."""
    reads_text: bool = True
    """Whether the room has a tokenizer."""
    reads_pictures: bool = True
    """Whether it reads the pictures of rows; else what was made of them and is joined."""
    doubts: Callable[[Any, Any], str] | None = None
    """Configs of trained weights and of the model that begins with them -> what is not known to go together, "" where
    nothing is open. None of rooms whose settings say all."""
    import_config: Callable[[Path, int | None, str | None], ImportedRun] | None = None
    """A config file of the paper's release, number of GPUs and task -> the run it describes; None of rooms whose
    releases have no such files."""
    published: Callable[[], tuple[Published, ...]] = tuple
    """The paper's results that can be run again."""
    told: Callable[[Any, Rows, Callable[[str], None]], Any] | None = None
    """The config with what the rows that are trained on say (class names); None where they say nothing. Hears what
    there is to tell the user."""


def room(system: str) -> Room:
    """The room of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match system:
        case "clip":
            from diptych.clip import recipes, weights
            from diptych.clip.inputs import ClipInputs, blank_batch
            from diptych.clip.model import CLIP, ClipConfig

            return Room(
                config=ClipConfig,
                model=CLIP,
                inputs=ClipInputs,
                blank=blank_batch,
                recipes=recipes.NAMES,
                recipe=recipes.named,
                weights=RoomWeights(
                    identify=weights.identify,
                    expected=weights.EXPECTED,
                    read=weights.read_weights,
                    write=weights.write_weights,
                    fitted=weights.fitted,
                    hub_files=weights.HUB_FILES,
                    vocabulary="clip",
                ),
            )
        case "uniter":
            from diptych.uniter import published as results
            from diptych.uniter import task_recipes
            from diptych.uniter import weights as released
            from diptych.uniter.heads import new_heads, sizes_in
            from diptych.uniter.inputs import UniterInputs, with_regions
            from diptych.uniter.model import UNITER, UniterConfig
            from diptych.uniter.released_configs import import_config

            return Room(
                config=UniterConfig,
                model=UNITER,
                inputs=UniterInputs,
                recipes=task_recipes.NAMES,
                recipe=task_recipes.named,
                weights=RoomWeights(
                    identify=released.identify,
                    expected=released.EXPECTED,
                    read=released.read_weights,
                    write=released.write_weights,
                    fitted=released.fitted,
                    hub_files=released.HUB_FILES,
                    vocabulary="bert-base-cased",
                    more_words=True,
                ),
                heads=lambda state, config: new_heads(sizes_in(state), config),
                reads_pictures=False,
                doubts=UniterConfig.doubts,
                import_config=import_config,
                published=results.rows,
                told=with_regions,
            )
        case "detector":
            from diptych.detector import recipes as runs
            from diptych.detector import torchvision_weights as published
            from diptych.detector.faster_rcnn import FasterRCNN
            from diptych.detector.layouts import lxmert
            from diptych.detector.learning_inputs import LearningInputs, with_names
            from diptych.detector.own_config import FasterRCNNConfig

            return Room(
                config=FasterRCNNConfig,
                model=FasterRCNN,
                inputs=lambda config, settings, _: LearningInputs(config, settings),
                recipes=runs.NAMES,
                recipe=runs.named,
                weights=RoomWeights(
                    identify=published.identify,
                    expected=published.EXPECTED,
                    read=published.read_weights,
                    write=published.write_weights,
                    fitted=published.fitted,
                    hub_files={lxmert.CONFIG_FILE: ((lxmert.WEIGHTS_FILE,),)},
                ),
                reads_text=False,
                told=with_names,
            )
        case _:
            raise UsageError(unknown("system", system, NAMES))


def system_of(weights: Path) -> str:
    """The system whose room knows the layout of published weights.

    Raises:
        WeightsError: none does.
    """
    for name in reversed(NAMES):  # a bare file whose tensors no other room knows by name is taken for CLIP's
        if room(name).weights.identify(weights) is not None:
            return name
    from diptych.detector.weights import is_bottom_up

    if is_bottom_up(weights):
        raise WeightsError(
            f"{weights} is bottom-up attention, which is not trained here, and makes regions alone: diptych regions "
            f"extract DATA --detector butd:{weights} --out REGIONS"
        )
    expected = "; or ".join(room(name).weights.expected for name in NAMES)
    raise WeightsError(f"{weights} holds no weights that are known here; expected {expected}")


def objective_class(name: str) -> type[Objective]:
    """The objective of that name, a frozen dataclass.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "contrastive":
            from diptych.objectives.contrastive import Contrastive

            return Contrastive
        case "sigmoid":
            from diptych.objectives.sigmoid import Sigmoid

            return Sigmoid
        case "captioning":
            from diptych.objectives.captioning import Captioning

            return Captioning
        case "detection":
            from diptych.objectives.detection import Detection

            return Detection
        case "pretraining":
            from diptych.objectives.pretraining import Pretraining

            return Pretraining
        case "vqa":
            from diptych.objectives.answering import Questions

            return Questions
        case "ve":
            from diptych.objectives.answering import Statements

            return Statements
        case "nlvr2":
            from diptych.objectives.two_pictures import TwoPictures

            return TwoPictures
        case "vcr":
            from diptych.objectives.choosing import Choosing

            return Choosing
        case "re":
            from diptych.objectives.referring import Referring

            return Referring
        case "ranking":
            from diptych.objectives.ranking import Ranking

            return Ranking
        case "hard_ranking":
            from diptych.objectives.ranking import HardRanking

            return HardRanking
        case "bag_of_words":
            from diptych.objectives.bag_of_words import BagOfWordsPrediction

            return BagOfWordsPrediction
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


def import_config(file: Path, *, gpus: int | None = None, task: str | None = None) -> ImportedRun:
    """The run that a config file of a paper's release describes, with word of every field.

    Args:
        file: as the release has it.
        gpus: how many it was for, where neither the file nor its name says so.
        task: what for, where the file does not say so.
    Raises:
        UsageError: it is no such file, or asks for what is not there.
    """
    (found,) = (made for name in NAMES if (made := room(name).import_config) is not None)
    return found(file, gpus, task)
