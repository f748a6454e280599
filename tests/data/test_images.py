"""Decoding whatever people have, and transforms that equal the papers' released ones."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data import images, transforms
from diptych.data.images import as_decoded, decode, decode_for_training
from diptych.data.sample import random_for
from diptych.data.transforms import RESIZE_MODES, evaluation_transform, random_resized_crop, random_square_crop
from diptych.errors import DataError, UsageError

MODES = ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1")


def _picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth and varied, so that a shift of one pixel shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 120 * np.sin(x / (3 + c)) * np.cos(y / (4 + c)) for c in range(4)]
    rgba = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode) if mode == "P" else rgba.convert(mode)


def _bytes(picture: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()


def _open_clip(size: int, mode: str, interpolation: str = "bicubic") -> Callable[[Image.Image], torch.Tensor]:
    transform = pytest.importorskip("open_clip.transform").image_transform(
        size, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=mode, interpolation=interpolation
    )
    return lambda picture: (transform(picture) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(57, 91), (91, 57), (40, 40), (31, 33), (7, 200)])
def test_evaluation_equals_openais_transform(mode: str, size: tuple[int, int]) -> None:
    picture = _picture(*size, mode)
    assert torch.equal(evaluation_transform(picture, size=32), _open_clip(32, "shortest")(picture))


@pytest.mark.parametrize("resize_mode", ["squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(57, 90), (90, 57), (20, 20), (101, 7)])
def test_other_resize_modes_equal_open_clips(resize_mode: str, interpolation: str, size: tuple[int, int]) -> None:
    picture = _picture(*size)
    found = evaluation_transform(picture, size=33, resize_mode=resize_mode, interpolation=interpolation)  # type: ignore[arg-type]
    assert torch.equal(found, _open_clip(33, resize_mode, interpolation)(picture))


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("size", [(57, 90), (90, 57), (33, 33), (20, 21)])
def test_pixels_that_torch_resizes_are_within_two_of_pillows(
    resize_mode: str, interpolation: str, size: tuple[int, int]
) -> None:
    picture = _picture(*size)
    settings: Any = {"size": 33, "resize_mode": resize_mode, "interpolation": interpolation}
    found = evaluation_transform(np.asarray(picture), **settings).int()
    assert (found - evaluation_transform(picture, **settings).int()).abs().max() <= 2


def test_unknown_modes_are_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'squash'"):
        evaluation_transform(_picture(5, 5), size=4, resize_mode="squach")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean 'bicubic'"):
        evaluation_transform(_picture(5, 5), size=4, interpolation="bicubik")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_pictures_stand_as_their_exif_says(orientation: int, format_: str) -> None:
    upright = Image.new("RGB", (30, 20), "white")
    upright.paste("red", (0, 0, 15, 10))  # a red corner at the top left
    turns = images._TURNS
    back = {6: turns[8], 8: turns[6]}.get(orientation, turns.get(orientation))
    stored = upright if back is None else upright.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = _bytes(stored, format_, exif=exif)
    for found in (decode(file), decode_for_training(file, size_hint=5)):
        pixels = np.asarray(found)
        assert pixels.shape[0] < pixels.shape[1]
        corner, far = pixels[2, 2], pixels[-3, -3]
        assert corner[0] > 200 and corner[1] < 60 and far.min() > 200
    assert as_decoded(decode(file)).size == (30, 20)  # turned once, though decoded and then handed on


def test_sixteen_bits_keep_their_range() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(9, 0)
    for format_ in ("PNG", "TIFF"):
        grey = np.asarray(decode(_bytes(Image.fromarray(ramp), format_)).convert("RGB"))[..., 0]
        assert np.abs(grey - ramp / 257).max() <= 0.5


def test_samples_of_unknown_range_are_refused() -> None:
    with pytest.raises(DataError, match="32-bit samples"):
        decode(_bytes(Image.fromarray(np.ones((4, 5), np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_mode_and_format_gives_three_channels_without_a_warning(mode: str, format_: str) -> None:
    try:
        file = _bytes(_picture(19, 23, mode), format_)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"{format_} cannot hold {mode}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluation_transform(decode(file), size=8).shape == (3, 8, 8)
        assert decode_for_training(file, size_hint=12).shape == (23, 19, 3)


def test_palettes_with_transparency_warn_nobody() -> None:
    picture = _picture(9, 9, "P")
    file = _bytes(picture, transparency=bytes(range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluation_transform(decode(file), size=4).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "no JPEG, PNG"),
        (_bytes(_picture(40, 40), "JPEG")[:300], "(?i)truncated"),
        (_bytes(_picture(40, 40))[:200], "cannot be decoded"),
        (_bytes(_picture(40, 40), "ICO"), "no JPEG, PNG"),
        (Path("nowhere/picture.png"), "No such file"),
    ],
)
def test_what_is_no_picture_is_a_data_error(file: bytes | Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(file)
    with pytest.raises(DataError, match=reason):
        decode_for_training(file, size_hint=10)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_flipped_bytes_decode_or_are_a_data_error(format_: str) -> None:
    whole, chance = _bytes(_picture(30, 20), format_), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode(bytes(damaged), max_pixels=1_000_000)
            decode_for_training(bytes(damaged), size_hint=4, max_pixels=1_000_000)
        except DataError:
            pass


def test_the_limit_of_pixels_is_an_error_and_stays_ours() -> None:
    before = Image.MAX_IMAGE_PIXELS
    for file in (_bytes(_picture(30, 20)), _bytes(_picture(30, 20), "JPEG")):
        with pytest.raises(DataError, match="30 × 20 pixels, more than the limit of 599"):
            decode(file, max_pixels=599)
        with pytest.raises(DataError, match="more than the limit"):
            decode_for_training(file, size_hint=5, max_pixels=599)
        assert decode(file, max_pixels=600).size == (30, 20)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(1, 9_000), (9_000, 1)])
def test_slivers_are_read_or_refused_but_never_fill_memory(size: tuple[int, int]) -> None:
    sliver = Image.new("RGB", size)
    with pytest.raises(DataError, match="too unlike"):
        evaluation_transform(sliver, size=224)
    for mode in ("squash", "longest"):
        assert evaluation_transform(sliver, size=12, resize_mode=mode).shape == (3, 12, 12)  # type: ignore[arg-type]
    assert random_square_crop(sliver, size=12, margin=1.5, rng=random_for(0, 0, "key")).shape == (3, 12, 12)


def test_draft_leaves_twice_the_hint() -> None:
    file = _bytes(_picture(330, 490), "JPEG")
    assert decode(file).size == (330, 490)
    assert decode(file, size_hint=100).size == (330, 490)
    assert decode(file, size_hint=82).size == (165, 245)
    assert decode(file, size_hint=20).size == (41, 61)  # of 41.25 x 61.25 eighths


@pytest.mark.parametrize("hint", [300, 80, 40, 13])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_simplejpeg_changes_no_bit(hint: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    file = _bytes(_picture(333, 491, mode), "JPEG")
    fast = decode_for_training(file, size_hint=hint)
    monkeypatch.setattr(images, "_has_simplejpeg", lambda: False)
    assert np.array_equal(fast, decode_for_training(file, size_hint=hint))


@pytest.mark.parametrize("side", [112, 150, 260, 520])
def test_training_pixels_are_near_pillows_whatever_the_scale_they_were_decoded_at(side: int) -> None:
    """The bound that docs/benchmarks.md states: 8 of 255 for a pixel, 0.5 on average."""
    rng = np.random.default_rng(7)
    octaves = [Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)) for n in (4, 16, 64, side)]
    layers = [np.asarray(octave.resize((side, side), Image.Resampling.BICUBIC), dtype=float) for octave in octaves]
    picture = Image.fromarray(np.average(layers, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8))
    file = _bytes(picture, "JPEG", quality=90)
    pixels = decode_for_training(file, size_hint=56)
    assert len(pixels) == (side if side < 224 else side // 2 if side < 448 else side // 4)
    crop = random_square_crop(pixels, size=56, margin=1.0, rng=random_for(0, 0, "key"))
    theirs = np.asarray(decode(file).resize((56, 56), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(crop.numpy().astype(int) - theirs)
    assert difference.max() <= 8 and difference.mean() <= 0.5


@pytest.mark.parametrize("sides", [(383, 509), (381, 384), (384, 512)])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_reduced_picture_shows_what_as_much_of_the_whole_one_shows(sides: tuple[int, int], mode: str) -> None:
    """Whole cells alone: a last column of half a cell would shift everything when it is stretched to a whole one."""
    y, x = np.mgrid[0 : sides[1], 0 : sides[0]]
    smooth = np.stack([x * 255 / sides[0], y * 255 / sides[1], 127 + 100 * np.sin(x / 60)], axis=-1).astype(np.uint8)
    file = _bytes(Image.fromarray(smooth).convert(mode), "JPEG", quality=95)
    reduced = decode_for_training(file, size_hint=80)
    height, width = reduced.shape[:2]
    assert (width, height) == (sides[0] // 2, sides[1] // 2)
    whole = np.asarray(decode(file).convert("RGB")).astype(float)[: 2 * height, : 2 * width]
    cells = whole.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - cells).max() <= 3


def test_training_pixels_of_photographs_are_near_pillows(shared: Path) -> None:
    """The bound that docs/benchmarks.md states: decoded at half its size, 32 of 255, and 3 on average."""
    table = pq.read_table(next((shared / "data" / "coco128").glob("train-*.parquet")), columns=["image"])
    for photograph in table.column("image").to_pylist()[:20]:
        reduced = decode_for_training(photograph["bytes"], size_hint=80)
        whole = decode(photograph["bytes"]).convert("RGB")
        side = min(reduced.shape[:2])
        found = random_square_crop(reduced[:side, :side], size=80, margin=1.0, rng=random_for(0, 0, "key"))
        window = whole.crop((0, 0, 2 * side, 2 * side)).resize((80, 80), Image.Resampling.BICUBIC)
        difference = np.abs(found.numpy().astype(int) - np.asarray(window).transpose(2, 0, 1))
        assert difference.max() <= 32 and difference.mean() <= 3


def test_a_square_crop_is_a_window_of_the_picture() -> None:
    position = np.arange(24 * 36).reshape(24, 36)
    picture = np.stack([position % 256, position // 256, position * 0], axis=-1).astype(np.uint8)
    seen = set()
    for number in range(200):
        crop = random_square_crop(picture, size=16, margin=1.5, rng=random_for(0, 0, str(number))).long()
        first = int(crop[0, 0, 0] + 256 * crop[1, 0, 0])
        top, left = divmod(first, 36)
        window = picture[top : top + 16, left : left + 16]
        assert np.array_equal(crop.permute(1, 2, 0).numpy(), window)
        seen.add((top, left))
    assert {top for top, _ in seen} == set(range(9)) and {left for _, left in seen} == set(range(21))


def test_margin_one_of_a_square_is_the_evaluation_transform() -> None:
    picture = _picture(60, 60)
    crop = random_square_crop(picture, size=20, margin=1.0, rng=random_for(0, 0, "key"))
    difference = (crop.int() - evaluation_transform(picture, size=20).int()).abs()
    assert difference.max() <= 1  # torch's rounding of the same antialiased bicubic filter


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_picture_gives_the_size_asked_for(width: int, height: int, size: int, seed: int) -> None:
    picture, rng = _picture(width, height), random_for(seed, 0, "key")
    assert random_square_crop(picture, size=size, margin=1.125, rng=rng).shape == (3, size, size)
    assert random_resized_crop(picture, size=size, scale=(0.5, 1.0), rng=rng).shape == (3, size, size)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (20, 90), (90, 20)])
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.08, 1.0)])
def test_crop_boxes_follow_torchvisions_law(
    height: int, width: int, scale: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the same numbers by chance, the box is the same, tries and fallback included."""
    torchvision = pytest.importorskip("torchvision.transforms")
    for seed in range(60):
        ours = transforms._crop_box(height, width, scale, random_for(seed, 0, "box"))
        with monkeypatch.context() as patch:
            _draw_from(random_for(seed, 0, "box"), patch)
            theirs = torchvision.RandomResizedCrop.get_params(
                torch.empty(3, height, width), list(scale), [3 / 4, 4 / 3]
            )
        assert ours == theirs


def _draw_from(rng: np.random.Generator, patch: pytest.MonkeyPatch) -> None:
    """Lets torchvision draw from `rng` in place of torch's global generator."""
    patch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(low + (high - low) * rng.random()))
    patch.setattr(torch, "randint", lambda low, high, size: torch.tensor([int(rng.integers(low, high))]))


def test_crop_area_keeps_its_scale() -> None:
    shares = []
    for seed in range(300):
        _, _, height, width = transforms._crop_box(400, 500, (0.3, 0.6), random_for(seed, 0, "area"))
        shares.append(height * width / (400 * 500))
        assert 3 / 4 - 0.02 < width / height < 4 / 3 + 0.02
    assert min(shares) > 0.29 and max(shares) < 0.61
    assert abs(sum(shares) / len(shares) - 0.45) < 0.02


def test_nearest_equals_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms.functional")
    pixels = np.random.default_rng(3).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    expected = transforms.resize(picture, 16, interpolation=transforms.InterpolationMode.NEAREST)
    expected = transforms.pil_to_tensor(transforms.center_crop(expected, 16))
    assert torch.equal(evaluation_transform(picture, size=16, interpolation="nearest"), expected)
