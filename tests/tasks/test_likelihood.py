"""Zero-shot by likelihood: a head that can be computed by hand, over pictures of one colour."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diptych.errors import DataError
from diptych.tasks.likelihood import zero_shot_by_likelihood

COLOURS = ("red", "green", "blue")
CLASSES = [(name,) for name in COLOURS]


class Words:
    """Texts become the places of their words in a list."""

    def __init__(self) -> None:
        self.known = ["a", "one", "the", *COLOURS]

    def text_ids(self, text: str) -> Tensor:
        return torch.tensor([self.known.index(word) for word in text.split()])


class ColourEncoder:
    """As much of a DualEncoder as is asked: the vector of a picture is its mean colour, of length other than 1."""

    def __init__(self, towers) -> None:
        self.towers, self.inputs, self.device = towers, Words(), torch.device("cpu")

    def encode_image(self, pictures, *, normalize=True):
        return self.towers.encode_image(pictures, normalize=normalize)


class Brightest:
    """The channel of a colour's word is its logit; any other word has probability 1/2, and so has each more of it."""

    def log_likelihood(self, image: Tensor, ids: Tensor) -> Tensor:
        log_p = (10 * image).log_softmax(dim=1)
        named = [
            log_p[:, place - 3] if place >= 3 else torch.full((len(image),), math.log(0.5)) for place in ids.tolist()
        ]
        return torch.stack(named).sum(0)


@pytest.fixture
def encoder(towers):
    return ColourEncoder(towers)


@pytest.fixture
def rows(make_rows, picture):
    return lambda labels: make_rows(
        [{"image": picture(colour), "label": label} for colour, label in zip(COLOURS, labels, strict=True)]
    )


def test_the_likeliest_text_names_the_class(encoder, rows):
    found = zero_shot_by_likelihood(encoder, Brightest(), rows([0, 1, 0]), class_names=CLASSES, templates=["a {}"])
    assert found.predicted.tolist() == [0, 1, 2]
    assert found.numbers()["top1"] == pytest.approx(2 / 3)


def test_a_class_is_as_probable_as_its_texts_on_average(encoder, rows):
    """By hand: p of the name alone, times 1/2 and 1/4 for the words around it, is 3/8 of it in the mean."""
    templates = ["a {}", "the one {}"]
    found = zero_shot_by_likelihood(encoder, Brightest(), rows([0, 1, 2]), class_names=CLASSES, templates=templates)
    plain = zero_shot_by_likelihood(encoder, Brightest(), rows([0, 1, 2]), class_names=CLASSES, templates=["{}"])
    assert found.confidence.tolist() == pytest.approx(plain.confidence.tolist(), abs=1e-6)
    twice = [("red", "red"), ("green",), ("blue",)]  # more names are no more likely
    again = zero_shot_by_likelihood(encoder, Brightest(), rows([0, 1, 2]), class_names=twice, templates=["{}"])
    assert again.confidence.tolist() == pytest.approx(plain.confidence.tolist(), abs=1e-6)


def test_what_cannot_be_classified_is_told(encoder, rows):
    with pytest.raises(DataError, match="the label 3, and there are 3 class names"):
        zero_shot_by_likelihood(encoder, Brightest(), rows([0, 1, 3]), class_names=CLASSES, templates=["{}"])
    with pytest.raises(DataError, match="at least two"):
        zero_shot_by_likelihood(encoder, Brightest(), rows([0, 0, 0]), class_names=CLASSES[:1], templates=["{}"])
