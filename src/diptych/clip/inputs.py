"""A picture and one of its texts, as CLIP reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch, ImagePart, TextPart, pad
from diptych.data.images import decode, decode_for_training
from diptych.data.sample import Item, Rng, Sample, hash64
from diptych.data.text_kinds import chosen_place, columns_of
from diptych.data.tokenizers import Tokenizer
from diptych.data.transforms import evaluation_transform, random_resized_crop, random_square_crop
from diptych.errors import DataError, UsageError
from diptych.train.run import InputSettings


@dataclass(frozen=True)
class ClipInputs:
    """Sample to Item to Batch."""

    config: ClipConfig
    settings: InputSettings
    tokenizer: Tokenizer

    @property
    def columns(self) -> tuple[str, ...]:
        """What texts are, where only some kinds of them are wanted."""
        return columns_of(self.settings.text_kinds)

    def __post_init__(self) -> None:
        """Raises UsageError of a transform whose pictures would not be of one size."""
        if self.settings.transform == "resize_and_flip":
            raise UsageError("inputs.transform is resize_and_flip, a detector's; CLIP takes one that crops, or none")

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        """The picture decoded and cropped, and one text of it tokenized; see `Inputs`."""
        if not sample.texts:
            raise DataError(f"{sample.key} has no text; CLIP reads pairs")
        return Item(
            key=sample.key,
            group=hash64(sample.group),
            pixels=self.pixels(sample, rng),
            text_ids=self.text_ids(sample.texts[chosen_place(sample, rng, self.settings.text_kinds)]),
        )

    def pixels(self, sample: Sample, rng: Rng | None) -> Tensor:
        """(3, size, size) uint8: the training transform, or with `rng` None the evaluation transform.

        CLIP, arXiv:2103.00020, section 2.3: a random square crop of the resized picture is the only augmentation.
        """
        if sample.image is None:
            raise DataError(f"{sample.key} has no picture; CLIP reads pairs")
        size = self.config.image_size
        if rng is None or self.settings.transform == "none":
            return self.evaluation_pixels(decode(sample.image))
        if self.settings.transform == "square_crop":
            margin = self.settings.crop_margin
            picture = decode_for_training(sample.image, size_hint=round(size * margin))
            return random_square_crop(picture, size=size, margin=margin, rng=rng)
        picture = decode_for_training(sample.image, size_hint=size)
        return random_resized_crop(picture, size=size, scale=self.settings.crop_scale, rng=rng)

    def evaluation_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        """(3, size, size) uint8 by the evaluation transform that the config names."""
        return evaluation_transform(
            image,
            size=self.config.image_size,
            resize_mode=self.config.resize_mode,
            interpolation=self.config.interpolation,
        )

    def whole_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        """(3, size, size) uint8 of the whole picture, both sides resized: what a feature map is made of.

        Nothing is cropped away, and a box of the picture is a box of the map by two factors.
        """
        size, interpolation = self.config.image_size, self.config.interpolation
        return evaluation_transform(image, size=size, resize_mode="squash", interpolation=interpolation)

    def text_ids(self, text: str) -> Tensor:
        """(T,) int64 with start and end, cut to the context."""
        return torch.tensor(self.tokenizer.encode(text, self.config.context))

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pads texts to the longest of the batch, not to the context: what follows the end is never read.

        Pictures alone or texts alone make a batch of one part.
        """
        pixels = [item.pixels for item in items if item.pixels is not None]
        text_ids = [item.text_ids for item in items if item.text_ids is not None]
        assert len(pixels) in (0, len(items)) and len(text_ids) in (0, len(items)), (
            "items of one batch have equal parts"
        )
        text = None
        if text_ids:
            ids, mask = pad(text_ids, value=self.tokenizer.pad_id)
            text = TextPart(ids=ids, mask=mask)
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            text=text,
            image=ImagePart(pixels=torch.stack(pixels)) if pixels else None,
        )

    def save(self, folder: Path) -> None:
        """Writes the tokenizer to `folder`/tokenizer."""
        self.tokenizer.save(folder / "tokenizer")


def blank_batch(config: ClipConfig, rows: int, num_tokens: int) -> Batch:
    """A batch with nothing in it, on torch's default device, for what asks of shapes alone."""
    return Batch(
        keys=("",) * rows,
        group=torch.empty(rows, dtype=torch.int64),
        text=TextPart(
            ids=torch.empty(rows, num_tokens, dtype=torch.int64), mask=torch.empty(rows, num_tokens, dtype=torch.bool)
        ),
        image=ImagePart(pixels=torch.empty(rows, 3, config.image_size, config.image_size, dtype=torch.uint8)),
    )
