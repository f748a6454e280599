"""A trained model, ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.nn.unfilled import unfilled
from diptych.systems.rooms import room
from diptych.systems.trained import read_trained
from diptych.tasks.encoder import DualEncoder
from diptych.train.device import resolve_device


def load(source: str | Path, device: str = "auto", config: Any = None, *, exact_pixels: bool = True) -> DualEncoder:
    """A trained model that knows its tokenizer and its picture transform.

    Args:
        source: a run folder (its best checkpoint, else the last; averaged weights where the run has them), OpenAI's
            `.pt`, a folder or file of open_clip, a folder of Hugging Face's `CLIPModel`, or a name on their hub.
        device: see `resolve_device`.
        config: what model published weights are of, where nothing beside them says it (a bare `.pt` of open_clip): the
            name of a recipe, e.g. "vit_h_14", a JSON file of the model's settings, or the room's config itself.
        exact_pixels: pictures are resized by Pillow, bit for bit as released; off, colour pictures by torch, in a fifth
            of the time and within 2 of 255.
    Raises:
        UsageError: the config is unknown, or given for a run, which has its own.
        WeightsError: it is none of these, or its tensors do not fit; nothing is guessed.
        CheckpointError: the run has no checkpoint, or it is damaged or newer than this diptych.
    """
    where = resolve_device(device)
    trained = read_trained(source, config)
    model: Any = unfilled(room(trained.system).model, trained.config)
    try:
        model.load_state_dict(trained.state)
    except RuntimeError as error:
        raise WeightsError(f"the weights of {source} do not fit the model of its settings: {error}") from error
    model.eval()
    inputs: Any = room(trained.system).inputs(trained.config, trained.inputs, trained.tokenizer)
    return DualEncoder(model, inputs, where, str(source), exact_pixels=exact_pixels)
