"""A trained model, ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import WeightsError, neighbour
from diptych.nn.unfilled import unfilled
from diptych.systems.rooms import room
from diptych.systems.trained import Trained, read_trained
from diptych.tasks.encoder import DualEncoder
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.train.device import resolve_device
from diptych.train.folder import holds_run

if TYPE_CHECKING:
    import torch

    from diptych.data.regions import BoxKind
    from diptych.detector.own import OwnDetector
    from diptych.detector.selection import Rule


def load(
    source: str | Path, device: str = "auto", config: Any = None, *, exact_pixels: bool = True
) -> DualEncoder | FusedMatcher:
    """A trained model that knows its tokenizer and what it reads of a picture: two towers, or one stream.

    Args:
        source: a run folder (its best checkpoint, else the last; averaged weights where the run has them), OpenAI's
            `.pt`, a folder or file of open_clip, a folder of Hugging Face's `CLIPModel`, or a name on their hub;
            UNITER's `.pt`.
        device: see `resolve_device`.
        config: what model published weights are of, where nothing beside them says it (a bare `.pt` of open_clip): the
            name of a recipe, e.g. "vit_h_14", a JSON file of the model's settings, or the room's config itself.
        exact_pixels: pictures are resized by Pillow, bit for bit as released; off, colour pictures by torch, in a fifth
            of the time and within 2 of 255.
    Raises:
        UsageError: the config is unknown, or given for a run, which has its own.
        WeightsError: it is none of these, or its tensors do not fit; nothing is guessed. Or it is a detector.
        CheckpointError: the run has no checkpoint, or it is damaged or newer than this diptych.
    """
    trained = read_trained(source, config)
    if not room(trained.system).reads_text:
        raise WeightsError(
            f"{source} is a {trained.system}, which makes no vectors of pictures and texts; load it with "
            "diptych.systems.load_detector, or make regions with it: diptych regions extract --detector own:RUN"
        )
    return _encoder(trained, resolve_device(device), exact_pixels=exact_pixels)


def load_towers(
    source: str | Path, device: str = "auto", config: Any = None, *, exact_pixels: bool = True
) -> DualEncoder:
    """What `load` returns, where only two towers will do.

    Raises:
        WeightsError: it is a model of one stream; otherwise as `load`.
    """
    found = load(source, device, config, exact_pixels=exact_pixels)
    if isinstance(found, FusedMatcher):
        raise WeightsError(
            f"{source} reads a text and a picture together and makes no vector of either; expected a model of two "
            "towers, such as a CLIP"
        )
    return found


def load_detector(
    source: str | Path,
    device: str = "auto",
    config: Any = None,
    *,
    rule: Rule | None = None,
    box_kind: BoxKind | None = None,
) -> OwnDetector:
    """One's own trained detector, or torchvision's, ready to find objects and to make regions.

    Args:
        source: a run folder, or the file of torchvision's fasterrcnn_resnet50_fpn or its second version.
        device: see `resolve_device`.
        config: as in `load`.
        rule: which proposals become regions; None: as in UNITER's features.
        box_kind: which box is written; None: as the rule's release does. "given" where boxes will be given.
    Raises:
        WeightsError: it is none of these, or not a detector; otherwise as `load`.
    """
    _check_detector(Path(source))
    trained = read_trained(source, config)
    if trained.system != "detector":
        raise WeightsError(f"{source} is a {trained.system}, not a detector; load it with diptych.load")
    return _detector(trained, resolve_device(device), rule, box_kind)


def _check_detector(source: Path) -> None:
    """Refuses what no detector can be read from, before the other rooms say what they would take.

    Raises:
        WeightsError: there is nothing, or nothing of a detector.
    """
    from diptych.detector.weights import is_bottom_up

    expected = "a run of `diptych regions train`, or the file of torchvision's fasterrcnn_resnet50_fpn or its v2"
    if not source.exists():
        raise WeightsError(f"there is no file or folder {source}{neighbour(source) or '.'} Expected {expected}")
    if source.is_dir() and not holds_run(source) and not is_bottom_up(source):
        raise WeightsError(f"{source} holds no detector; expected {expected}")


def load_any(
    source: str | Path, device: str = "auto", config: Any = None, *, exact_pixels: bool = True
) -> DualEncoder | FusedMatcher | OwnDetector:
    """Whatever it is: what `load` or `load_detector` would return."""
    return ready(read_trained(source, config), device, exact_pixels=exact_pixels)


def ready(
    trained: Trained, device: str = "auto", *, exact_pixels: bool = True
) -> DualEncoder | FusedMatcher | OwnDetector:
    """The model itself, of what was read."""
    where = resolve_device(device)
    if trained.system == "detector":
        return _detector(trained, where)
    return _encoder(trained, where, exact_pixels=exact_pixels)


def _encoder(trained: Trained, device: torch.device, *, exact_pixels: bool) -> DualEncoder | FusedMatcher:
    inputs: Any = room(trained.system).inputs(trained.config, trained.inputs, trained.tokenizer)
    if room(trained.system).heads is not None:
        return FusedMatcher(_model(trained), inputs, device, trained.source)
    return DualEncoder(_model(trained), inputs, device, trained.source, exact_pixels=exact_pixels)


def _detector(
    trained: Trained, device: torch.device, rule: Rule | None = None, box_kind: BoxKind | None = None
) -> OwnDetector:
    from diptych.detector.own import OwnDetector

    inputs: Any = room(trained.system).inputs(trained.config, trained.inputs, None)
    return OwnDetector(_model(trained), inputs, device, trained.source, rule, box_kind)


def _model(trained: Trained) -> Any:
    model: Any = unfilled(_empty_model, trained)
    missing = sorted(model.state_dict().keys() - trained.state.keys())
    if missing:
        raise WeightsError(
            f"{trained.source} lacks {len(missing)} tensors of a {trained.system}, e.g. {missing[0]}; such weights are "
            f"to begin a training with: diptych train {trained.system} RECIPE --init {trained.source}"
        )
    try:
        model.load_state_dict(trained.state)
    except RuntimeError as error:
        raise WeightsError(f"the weights of {trained.source} do not fit the model of its settings: {error}") from error
    return model.eval()


def _empty_model(trained: Trained) -> Any:
    of_room = room(trained.system)
    model: Any = of_room.model(trained.config)
    if of_room.heads is not None:
        model.heads = of_room.heads(trained.state, trained.config)
    return model
