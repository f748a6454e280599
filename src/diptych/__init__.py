"""diptych: vision on one panel, language on the other.

Four vision-and-language pretraining systems on the same data. Importing the package loads no torch; the functions
below import what they need when they are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.clip.model import ClipConfig
    from diptych.data.table import Table
    from diptych.tasks.encoder import DualEncoder
    from diptych.tasks.fused_matcher import FusedMatcher

__version__ = "0.1.0"
__all__ = ["__version__", "load", "open_table"]


def load(
    source: str | Path,
    *,
    device: str = "auto",
    config: str | Path | ClipConfig | None = None,
    exact_pixels: bool = True,
) -> DualEncoder | FusedMatcher:
    """A trained model that knows its tokenizer and what it reads of a picture: two towers, or one stream.

    Args:
        source: a run folder of ours, an OpenAI `.pt`, an open_clip or Hugging Face folder, or a hub name; or UNITER's
            `.pt`.
        device: "auto", "cpu", "cuda", "mps" or as torch spells it.
        config: what model the weights are of, where nothing beside them says it (a bare `.pt` or `.safetensors` of
            open_clip): the name of a recipe, e.g. "vit_h_14", a JSON file of the model's settings, or a ClipConfig.
        exact_pixels: on, pictures are resized bit for bit as the papers' released code does; off, colour pictures in a
            fifth of the time, and within 2 of 255 of that.

    Raises:
        UsageError: the config is unknown, or given for a run, which has its own.
        WeightsError: the file is none of these, or its tensors do not fit; nothing is guessed.
    """
    from diptych import systems

    return systems.load(source, device=device, config=config, exact_pixels=exact_pixels)


def open_table(path: str | Path) -> Table:
    """The table in folder `path`, as `diptych data import` or `diptych data scenes` wrote it.

    Raises:
        DataError: the folder is no table, a shard of it is damaged, or a newer diptych wrote it.
    """
    from diptych.data import table

    return table.open_table(Path(path))
