"""DualEncoder over a model whose vectors one can read: the mean colour of a picture, the letters of a text."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from diptych.data.batch import Batch, ImagePart, TextPart, pad
from diptych.data.sample import Item, Sample
from diptych.data.transforms import evaluation_transform
from diptych.errors import DataError, UsageError
from diptych.progress import SilentBar
from diptych.tasks.encoder import DualEncoder

COLOURS = {"red": (250, 10, 10), "green": (10, 240, 10), "blue": (10, 10, 230), "grey": (90, 90, 90)}


class ColourModel(nn.Module):
    """(mean red, green, blue) of a picture and (number of r, g, b) of a text; dropout and batch norm show the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.frozen = nn.Linear(3, 3).eval()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.batches: list[tuple[int, ...]] = []

    @property
    def scale(self) -> Tensor:
        return self.logit_scale.exp()

    def encode_image(self, pixels: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(tuple(pixels.shape))
        return self.dropout(self.norm(pixels.float().mean(dim=(2, 3)) / 255))

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.batches.append(tuple(ids.shape))
        counts = [((ids == ord(letter)) & mask).sum(dim=1) for letter in "rgb"]
        return self.dropout(torch.stack(counts, dim=1).float())

    def image_features(self, pixels: Tensor) -> Tensor:
        return torch.cat([self.encode_image(pixels), torch.ones(len(pixels), 2)], dim=1)

    def feature_map(self, pixels: Tensor) -> Tensor:
        return self.dropout(pixels.float())


class LetterInputs:
    """Texts as code points, pictures as 4 x 4 pixels."""

    def evaluation_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image.convert("RGB")
        return torch.tensor(np.asarray(picture.resize((4, 4)))).permute(2, 0, 1)

    def whole_pixels(self, image: Image.Image) -> Tensor:
        return torch.tensor(np.asarray(image.convert("RGB").resize((2, 3)))).permute(2, 0, 1)

    def text_ids(self, text: str) -> Tensor:
        return torch.tensor([1, *map(ord, text), 2])

    def collate(self, items: Sequence[Item]) -> Batch:
        pixels = [item.pixels for item in items if item.pixels is not None]
        texts = [item.text_ids for item in items if item.text_ids is not None]
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            text=TextPart(**dict(zip(("ids", "mask"), pad(texts, 0), strict=True))) if texts else None,
            image=ImagePart(pixels=torch.stack(pixels)) if pixels else None,
        )


class ResizedInputs(LetterInputs):
    """Pictures by the evaluation transform."""

    def evaluation_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        return evaluation_transform(image, size=24)


class Spoken:
    """A Progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        return SilentBar()


@pytest.fixture
def model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def encoder(model: ColourModel) -> DualEncoder:
    return DualEncoder(model, LetterInputs(), torch.device("cpu"), "colours")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """red.png, sub/green.PNG, blue.png, grey.png, and files that are no pictures."""
    (tmp_path / "sub").mkdir()
    for name, colour in COLOURS.items():
        place = tmp_path / "sub" / "green.PNG" if name == "green" else tmp_path / f"{name}.png"
        Image.new("RGB", (9, 7), colour).save(place, "png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_all_kinds_of_pictures_give_the_same(encoder: DualEncoder, folder: Path) -> None:
    path = folder / "red.png"
    kinds = [Image.open(path), path, str(path), path.read_bytes(), Sample(key="a", group="a", image=path.read_bytes())]
    vectors = encoder.encode_image(kinds)
    assert vectors.shape == (5, 3)
    assert_close(vectors, vectors[:1].expand(5, 3))
    assert_close(vectors.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_torch_resizes_colour_pictures_alone(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (57, 83, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    model, device = ColourModel(), torch.device("cpu")
    exact = DualEncoder(model, ResizedInputs(), device, "exact")._pixels(picture)
    quick = DualEncoder(model, ResizedInputs(), device, "quick", exact_pixels=False)._pixels(picture)
    difference = (exact.int() - quick.int()).abs().max()
    assert difference <= 2 and bool(difference) == (mode == "RGB")


def test_the_number_at_once_changes_nothing(encoder: DualEncoder, model: ColourModel, folder: Path) -> None:
    pictures = [Image.new("RGB", (5, 6), (i * 9, 255 - i * 9, i)) for i in range(11)]
    texts = [("rg" * i + "b")[: i + 1] for i in range(11)]
    assert_close(encoder.encode_image(pictures, batch=3), encoder.encode_image(pictures))
    assert model.batches[:4] == [(3, 3, 4, 4)] * 3 + [(2, 3, 4, 4)]
    assert_close(encoder.encode_text(texts, batch=2), encoder.encode_text(texts))
    assert_close(encoder.image_features(pictures, batch=4), encoder.image_features(pictures))


def test_texts_come_back_in_their_order(encoder: DualEncoder, model: ColourModel) -> None:
    vectors = encoder.encode_text(["bbbb", "r", "ggggggg", "rg", "b"], batch=2, normalize=False)
    assert vectors.tolist() == [[0, 0, 4], [1, 0, 0], [0, 7, 0], [1, 1, 0], [0, 0, 1]]
    assert model.batches == [(2, 3), (2, 6), (1, 9)]  # equal lengths together


def test_without_normalising(encoder: DualEncoder) -> None:
    (vector,) = encoder.encode_image([Image.new("RGB", (3, 3), (255, 51, 0))], normalize=False)
    assert_close(vector, torch.tensor([1.0, 0.2, 0.0]), atol=1e-4, rtol=1e-4)


def test_no_pictures_and_no_texts(encoder: DualEncoder) -> None:
    assert encoder.encode_image([]).shape == (0, 3)
    assert encoder.encode_text([]).shape == (0, 3)
    assert encoder.image_features([]).shape == (0, 5)


def test_every_module_keeps_its_mode(encoder: DualEncoder, model: ColourModel) -> None:
    model.train()
    model.frozen.eval()
    before = {name: module.training for name, module in model.named_modules()}
    statistics = model.norm.running_mean.clone()
    pictures = [Image.new("RGB", (3, 3), colour) for colour in COLOURS.values()]
    first, second = encoder.encode_image(pictures), encoder.encode_image(pictures)
    assert_close(first, second, atol=0, rtol=0)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert_close(model.norm.running_mean, statistics)


def test_the_mode_is_restored_after_an_error(encoder: DualEncoder, model: ColourModel) -> None:
    model.train()
    with pytest.raises(DataError):
        encoder.encode_image([b"nothing"])
    assert model.dropout.training
    assert torch.is_grad_enabled()


def test_vectors_may_take_part_in_training(encoder: DualEncoder) -> None:
    weight = torch.ones(3, requires_grad=True)
    for vectors in (encoder.encode_text(["r"], normalize=False), encoder.encode_image([Image.new("RGB", (3, 3))])):
        (vectors @ weight).sum().backward()
    features = encoder.image_features([Image.new("RGB", (3, 3))])
    (features * torch.ones(5, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_bad_picture_is_named(encoder: DualEncoder, folder: Path, place: int) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    pictures: list[object] = [folder / "red.png"] * 6
    for bad, name in (
        (folder / "broken.jpg", "broken.jpg"),
        (folder / "missing.png", "missing.png"),
        (_cut_png(), f"picture {place} of the list"),
        (Sample(key="row 7", group="", image=None), "row 7: has no picture"),
        (Sample(key="row 8", group="", image=b""), "row 8"),
    ):
        pictures[place] = bad
        with pytest.raises(DataError, match=name):
            encoder.encode_image(pictures, batch=2)


def test_a_damaged_picture_of_pillow_is_named(encoder: DualEncoder) -> None:
    lazy = Image.open(io.BytesIO(_cut_png()))
    with pytest.raises(DataError, match="picture 1 of the list"):
        encoder.encode_image([Image.new("RGB", (3, 3)), lazy])


def test_one_lazy_picture_many_times(encoder: DualEncoder, folder: Path) -> None:
    vectors = encoder.encode_image([Image.open(folder / "red.png")] * 40, batch=16)
    assert_close(vectors, vectors[:1].expand(40, 3))


def test_pictures_are_turned_as_exif_says(encoder: DualEncoder, tmp_path: Path) -> None:
    halves = Image.new("RGB", (8, 8), "red")
    halves.paste("blue", (0, 4, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    halves.save(tmp_path / "turned.png", exif=exif)
    seen = [encoder.inputs.evaluation_pixels(halves.rotate(180)).float()]
    encoder.inputs = _Recording(seen)
    encoder.encode_image([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    assert_close(seen[1], seen[0])
    assert_close(seen[2], seen[0])


def _cut_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 90).save(file, "png")
    return file.getvalue()[: file.tell() // 2]


def test_sixteen_bits_are_no_white(encoder: DualEncoder, tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((6, 7), 65535 // 3, dtype=np.uint16))
    grey.save(tmp_path / "deep.png")
    vectors = encoder.encode_image([tmp_path / "deep.png", Image.open(tmp_path / "deep.png")], normalize=False)
    assert_close(vectors, torch.full((2, 3), 1 / 3), atol=0.01, rtol=0)


class _Recording(LetterInputs):
    def __init__(self, seen: list[Tensor]) -> None:
        self.seen = seen

    def evaluation_pixels(self, image: Image.Image | np.ndarray) -> Tensor:
        pixels = super().evaluation_pixels(image)
        self.seen.append(pixels.float())
        return pixels


@pytest.mark.parametrize("pictures", ["red.png", Path("red.png"), b"bytes", Image.new("RGB", (2, 2))])
def test_one_picture_instead_of_a_list(encoder: DualEncoder, pictures: object) -> None:
    with pytest.raises(UsageError, match=r"expected a list of pictures, got one \w+; put it in brackets"):
        encoder.encode_image(pictures)  # type: ignore[arg-type]


def test_not_pictures_and_not_texts(encoder: DualEncoder) -> None:
    with pytest.raises(UsageError, match="cannot encode a ndarray"):
        encoder.encode_image([np.zeros((3, 3))])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"expected a list of texts.*\[text\]"):
        encoder.encode_text("a dog")
    with pytest.raises(UsageError, match="text 1 of the list is one int"):
        encoder.encode_text(["a", 3])  # type: ignore[list-item]


def test_rank_finds_the_colour(encoder: DualEncoder, folder: Path) -> None:
    hits = encoder.rank("g", folder)
    assert hits[0].path == folder / "sub" / "green.PNG"
    assert len(hits) == 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert encoder.rank("g", str(folder), top=2, batch=3) == hits[:2]
    assert encoder.rank("g", [folder / "grey.png", str(folder / "red.png")])[0].path == folder / "grey.png"


def test_rank_leaves_bad_files_out_and_says_so(encoder: DualEncoder, folder: Path) -> None:
    (folder / "a_broken.jpg").write_bytes(b"no picture")
    spoken = Spoken()
    hits = encoder.rank("b", folder, batch=2, progress=spoken)
    assert hits[0].path == folder / "blue.png"
    assert len(hits) == 4
    assert len(spoken.lines) == 1
    assert "a_broken.jpg" in spoken.lines[0]


def test_rank_without_a_picture(encoder: DualEncoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no picture; expected files that end in .*\.jpg"):
        encoder.rank("r", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        encoder.rank("r", tmp_path / "nowhere")
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"none of the 1 pictures can be read; the first is .*bad\.png"):
        encoder.rank("r", tmp_path)
    with pytest.raises(UsageError, match="rank looks for one text"):
        encoder.rank(["r"], tmp_path)  # type: ignore[arg-type]


def test_scale_is_the_models(encoder: DualEncoder) -> None:
    assert encoder.scale == pytest.approx(7.389056)


def test_warnings_are_shown_as_before(encoder: DualEncoder, folder: Path) -> None:
    before = list(warnings.filters)
    for _ in range(5):
        encoder.encode_image([folder / "red.png"] * 40, batch=8)
    assert warnings.filters == before


def test_no_thread_is_left(encoder: DualEncoder, folder: Path) -> None:
    with pytest.raises(DataError):
        encoder.encode_image([b"bad", *[folder / "red.png"] * 50], batch=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_feature_map_is_of_the_whole_picture(encoder: DualEncoder) -> None:
    wide = Image.new("RGB", (90, 4), COLOURS["red"])
    wide.paste(COLOURS["blue"], (45, 0, 90, 4))
    maps = encoder.feature_maps([wide, Image.new("RGB", (1, 1), COLOURS["green"])])
    assert maps.shape == (2, 3, 3, 2)
    left, right = maps[0, :, 1].T  # bicubic lets a tenth of each half into the other
    assert left[0] > 200 > 50 > left[2] and right[2] > 200 > 50 > right[0]
    assert encoder.feature_maps([]).shape == (0, 3, 3, 2)
