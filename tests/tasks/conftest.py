"""A tiny table, and an encoder of two towers that reads what the tests wrote into pictures and texts."""

import io

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

PALETTE = {"red": (200, 20, 20), "green": (20, 190, 20), "blue": (20, 20, 210), "yellow": (210, 200, 20)}


def drawn(colour):
    """The bytes of a small picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), PALETTE.get(colour, colour)).save(file, "PNG")
    return file.getvalue()


class ColourTowers:
    """Pictures become their mean colour, texts the colour that they name, both less grey."""

    name = "colours"
    scale = 100.0

    def encode_image(self, pictures, *, normalize=True):
        vectors = self.image_features(pictures)
        return F.normalize(vectors, dim=1) if normalize else vectors

    def image_features(self, pictures):
        rows = []
        for sample in pictures:
            try:
                colour = Image.open(io.BytesIO(sample.image)).convert("RGB").resize((1, 1)).getpixel((0, 0))
            except OSError as error:
                raise DataError(f"{sample.key}: no picture") from error
            rows.append([channel / 255 - 0.4 for channel in colour])
        return torch.tensor(rows)

    def encode_text(self, texts, *, normalize=True):
        rows = []
        for text in texts:
            named = [colour for name, colour in PALETTE.items() if name in text.split()]
            mean = torch.tensor(named or [(102, 102, 102)]).double().mean(dim=0)
            rows.append(mean.float() / 255 - 0.4)
        vectors = torch.stack(rows)
        return F.normalize(vectors, dim=1) if normalize else vectors


@pytest.fixture
def picture():
    return drawn


@pytest.fixture
def towers():
    return ColourTowers()


@pytest.fixture
def make_rows(tmp_path):
    """Writes rows (dicts of what `TableWriter.add` takes) as a table and opens its split "test"."""

    def make(rows, columns=None, meta=None, split="test"):
        folder = tmp_path / f"table{len(list(tmp_path.iterdir()))}"
        with TableWriter(folder, columns=columns or {}, meta=meta or {}) as writer:
            for number, row in enumerate(rows):
                row = {"key": f"k{number}", "texts": [], "image": drawn("red")} | row
                writer.add(row.pop("split", split), **row)
        return open_table(folder).split(split)

    return make
