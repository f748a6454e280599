"""A trained model of two towers for people: pictures and texts in, vectors out, no transform or `.eval()` by hand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch
from diptych.data.decoding import Picture, decode_ahead, find_pictures
from diptych.data.sample import Item
from diptych.errors import DataError, UsageError
from diptych.nn.rest import at_rest
from diptych.progress import SILENT, Progress

ToPixels = Callable[[Image.Image | np.ndarray], Tensor]
"""From a picture, or from pixels as training reads them, to (3, height, width) uint8."""


@runtime_checkable
class Towers(Protocol):
    """What the tasks ask of a model; `DualEncoder` is one."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    @property
    def scale(self) -> float:
        """What cosines are multiplied by before the softmax."""

    def encode_image(self, pictures: Sequence[Any], *, normalize: bool = True) -> Tensor:
        """(N, E) float32; raises DataError where one cannot be decoded."""

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Tensor:
        """(N, E) float32."""

    def image_features(self, pictures: Sequence[Any]) -> Tensor:
        """(N, D) float32, what a linear probe reads."""


class TowerModel(Protocol):
    """A room's model as the encoder uses it; an `nn.Module`."""

    @property
    def scale(self) -> Tensor:
        """() the inverse of the temperature."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) uint8 to (B, E), not normalised."""

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) ids and mask to (B, E), not normalised."""

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) uint8 to (B, D), before the projection."""

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) uint8 to (B, D, h, w), the tower's last map."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module` has it."""

    def to(self, device: torch.device, *, memory_format: torch.memory_format) -> Any:
        """As `nn.Module` has it."""


class TowerInputs(Protocol):
    """A room's way from one picture or one text to a batch."""

    def evaluation_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        """(3, height, width) uint8."""

    def whole_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        """(3, height, width) uint8 of the picture uncropped."""

    def text_ids(self, text: str) -> Tensor:
        """(T,) int64 with start and end."""

    def collate(self, items: Sequence[Item]) -> Batch:
        """Items that all have pixels, or all have text, as a batch."""


@dataclass(frozen=True)
class Hit:
    """A picture that was found."""

    score: float
    """Cosine with the text."""
    path: Path


class DualEncoder:
    """A model that knows its tokenizer and its picture transform.

    Pictures are PIL pictures, paths, files' bytes or rows of a table, in any mixture. Vectors come back in float32 on
    the CPU. The model is moved to `device` once, and left in the mode it was found in after every call.
    """

    def __init__(
        self, model: TowerModel, inputs: TowerInputs, device: torch.device, name: str, *, exact_pixels: bool = True
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.device = device
        self.name = name
        self.exact_pixels = exact_pixels
        """Off: torch resizes colour pictures, sooner, and within 2 of 255 of Pillow's pixels."""
        model.to(device, memory_format=torch.channels_last)

    @property
    def scale(self) -> float:
        """The inverse of the temperature."""
        return float(self.model.scale.detach())

    def encode_image(self, pictures: Sequence[Picture], *, batch: int = 64, normalize: bool = True) -> Tensor:
        """(N, E): a vector a picture, of length 1 unless `normalize` is off.

        Raises:
            DataError: one cannot be decoded; the message names it.
            UsageError: not a list of pictures.
        """
        vectors = self._of_pictures(pictures, self.model.encode_image, batch)
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def image_features(self, pictures: Sequence[Picture], *, batch: int = 64) -> Tensor:
        """(N, D): what the picture tower makes before the projection, as a linear probe reads it."""
        return self._of_pictures(pictures, self.model.image_features, batch)

    def feature_maps(self, pictures: Sequence[Picture], *, batch: int = 64) -> Tensor:
        """(N, D, h, w): the picture tower's last map of the whole picture, squashed into its square, not cropped."""
        return self._of_pictures(pictures, self.model.feature_map, batch, self.inputs.whole_pixels)

    def encode_text(self, texts: Sequence[str], *, batch: int = 256, normalize: bool = True) -> Tensor:
        """(N, E): a vector a text, of length 1 unless `normalize` is off; too long a text is cut to the context.

        Raises:
            UsageError: not a list of strings.
        """
        _check_texts(texts)
        if not texts:
            return self.encode_text([""])[:0]
        ids = [self.inputs.text_ids(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))  # equal lengths together: little padding
        with at_rest(self.model):
            parts = [self._of_ids(ids, order[start : start + batch]) for start in range(0, len(ids), batch)]
        found = torch.cat(parts)  # out of inference mode, so that what is returned may take part in training
        vectors = torch.empty_like(found)
        vectors[order] = found
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def rank(
        self,
        text: str,
        pictures: str | Path | Sequence[str | Path],
        *,
        top: int = 10,
        batch: int = 64,
        progress: Progress = SILENT,
    ) -> list[Hit]:
        """The pictures that fit `text` best, the best first.

        Args:
            text: what to look for.
            pictures: a folder, with all below it, or a list of files; bad ones are left out and told to `progress`.
            top: most hits to return.
            batch: pictures that go through the model at once.
            progress: where it is drawn.
        Raises:
            DataError: there are no pictures, or not one of them can be read.
        """
        if not isinstance(text, str):
            raise UsageError(f"rank looks for one text; got {_kind(text)}. Call it once for each")
        paths = find_pictures(pictures)
        kept, vectors, bad = self._readable(paths, batch, progress)
        for error in bad:
            progress.say(f"left out {error}")
        if not kept:
            raise DataError(f"none of the {len(paths)} pictures can be read{f'; the first is {bad[0]}' if bad else ''}")
        scores = (torch.cat(vectors) @ self.encode_text([text])[0]).tolist()
        hits = sorted((Hit(score, path) for score, path in zip(scores, kept, strict=True)), key=lambda hit: -hit.score)
        return hits[:top]

    def _readable(
        self, paths: Sequence[Path], batch: int, progress: Progress
    ) -> tuple[list[Path], list[Tensor], list[DataError]]:
        """The paths that can be read, their normalised vectors, and what is wrong with the others."""
        kept: list[Path] = []
        vectors: list[Tensor] = []
        bad: list[DataError] = []
        with (
            at_rest(self.model),
            closing(self._decode_ahead(paths, batch)) as chunks,
            progress.bar("encoding pictures", total=len(paths), unit="pictures") as bar,
        ):
            for number, chunk in enumerate(chunks):
                good = [place for place, found in enumerate(chunk) if isinstance(found, Tensor)]
                bad += [found for found in chunk if isinstance(found, DataError)]
                if good:
                    kept += [paths[number * batch + place] for place in good]
                    pixels = _stacked([chunk[place] for place in good])
                    vectors.append(F.normalize(self._on_device(self.model.encode_image, pixels), dim=-1))
                bar.advance(len(chunk))
        return kept, vectors, bad

    def _of_pictures(
        self,
        pictures: Sequence[Picture],
        encode: Any,
        batch: int,
        to_pixels: ToPixels | None = None,
    ) -> Tensor:
        if isinstance(pictures, Picture):
            raise UsageError(f"expected a list of pictures, got {_kind(pictures)}; put it in brackets: [picture]")
        if not pictures:
            blank = [Image.new("RGB", (8, 8))]  # the width of nothing is the model's to say
            return self._of_pictures(blank, encode, 1, to_pixels)[:0]
        with at_rest(self.model), closing(self._decode_ahead(pictures, batch, to_pixels)) as chunks:
            parts = [self._on_device(encode, _stacked(chunk)) for chunk in chunks]
        return torch.cat(parts)

    def _decode_ahead(
        self, pictures: Sequence[Picture], batch: int, to_pixels: ToPixels | None = None
    ) -> Generator[list[Tensor | DataError]]:
        return decode_ahead(pictures, partial(self._pixels, to_pixels=to_pixels), batch=batch)

    def _pixels(self, image: Image.Image, to_pixels: ToPixels | None = None) -> Tensor:
        quick = image.mode == "RGB" and not self.exact_pixels  # Pillow resizes palettes and alpha in ways of its own
        return (to_pixels or self.inputs.evaluation_pixels)(np.asarray(image) if quick else image)

    def _on_device(self, encode: Any, pixels: Tensor) -> Tensor:
        return encode(pixels.to(self.device)).float().cpu()

    def _of_ids(self, ids: Sequence[Tensor], chosen: Sequence[int]) -> Tensor:
        items = [Item(key="", group=0, text_ids=ids[place]) for place in chosen]
        text = self.inputs.collate(items).to(self.device).text
        assert text is not None, "a batch of texts has a text part"
        return self.model.encode_text(text.ids, text.mask).float().cpu()


def _stacked(chunk: Sequence[Tensor | DataError]) -> Tensor:
    """(B, 3, height, width); raises what the first bad picture left in its place."""
    for found in chunk:
        if isinstance(found, DataError):
            raise found
    return torch.stack([found for found in chunk if isinstance(found, Tensor)])


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str | bytes):
        raise UsageError(f"expected a list of texts, got {_kind(texts)}; put it in brackets: [text]")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"text {place} of the list is {_kind(text)}; expected a str")


def _kind(value: object) -> str:
    return f"one {type(value).__name__}"
