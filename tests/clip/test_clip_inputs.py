"""From a sample to a batch: transforms, the choice of a text, padding, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.clip.inputs import ClipInputs
from diptych.clip.model import ClipConfig
from diptych.data.sample import Sample, hash64, random_for
from diptych.data.tokenizers import train_tokenizer
from diptych.data.transforms import evaluation_transform
from diptych.errors import DataError
from diptych.train.run import InputSettings

TEXTS = ("a red house", "a blue fish left of a key", "two trees")


@pytest.fixture(scope="module")
def inputs() -> ClipInputs:
    tokenizer = train_tokenizer(TEXTS, "wordpiece", 100)
    config = ClipConfig(image_size=24, context=6, vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id)
    return ClipInputs(config, InputSettings(), tokenizer)


def picture(size: tuple[int, int] = (50, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


def sample(**changes) -> Sample:
    return replace(Sample(key="a/1", group="a", image=png(picture()), texts=TEXTS), **changes)


def test_evaluation_takes_the_first_text_and_the_exact_transform(inputs):
    item = inputs.item(sample(), None)
    assert item.text_ids.tolist() == inputs.tokenizer.encode(TEXTS[0], 6)
    assert torch.equal(item.pixels, evaluation_transform(picture(), size=24))
    assert item.group == hash64("a")


def test_training_draws_a_text_and_a_crop_by_the_generator_alone(inputs):
    def drawn(epoch: int):
        return inputs.item(sample(), random_for(0, epoch, "a/1"))

    items = [drawn(epoch) for epoch in range(20)]
    assert len({tuple(item.text_ids.tolist()) for item in items}) == len(TEXTS)
    assert len({item.pixels.numpy().tobytes() for item in items}) > 10
    again = drawn(7)
    assert torch.equal(again.pixels, items[7].pixels) and torch.equal(again.text_ids, items[7].text_ids)


@pytest.mark.parametrize("transform", ["square_crop", "random_resized_crop", "none"])
def test_every_transform_gives_the_models_size(inputs, transform):
    settings = InputSettings(transform=transform)
    item = replace(inputs, settings=settings).item(sample(), random_for(0, 0, "a/1"))
    assert item.pixels.shape == (3, 24, 24) and item.pixels.dtype == torch.uint8
    same = torch.equal(item.pixels, inputs.item(sample(), None).pixels)
    assert same == (transform == "none")


def test_a_text_is_cut_to_the_context_with_its_end_kept(inputs):
    ids = inputs.text_ids(TEXTS[1])
    assert len(ids) == 6 and ids[-1] == inputs.tokenizer.end_id


def test_texts_are_padded_to_the_longest_of_the_batch(inputs):
    items = [inputs.item(sample(key=text, texts=(text,)), None) for text in ("red", TEXTS[0])]
    batch = inputs.collate(items)
    lengths = [len(item.text_ids) for item in items]
    assert batch.keys == ("red", TEXTS[0])
    assert batch.text.ids.shape == batch.text.mask.shape == (2, max(lengths))
    assert batch.text.mask.sum(dim=1).tolist() == lengths
    assert batch.image.pixels.shape == (2, 3, 24, 24) and batch.image.pixels.dtype == torch.uint8


def test_pictures_alone_make_a_batch(inputs):
    items = [replace(inputs.item(sample(), None), text_ids=None)]
    assert inputs.collate(items).text is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"texts": ()}, "no text"), ({"image": None}, "no picture"), ({"image": b"no picture"}, "decoded")],
)
def test_what_is_missing_is_told(inputs, changes, words):
    with pytest.raises(DataError, match=words):
        inputs.item(sample(**changes), None)
