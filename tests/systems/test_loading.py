"""Loading what was trained or published, and beginning with its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import diptych
from diptych import systems
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import write_weights
from diptych.data.table import Table
from diptych.data.tokenizers import Tokenizer, clip_tokenizer, train_tokenizer
from diptych.errors import CheckpointError, UsageError, WeightsError
from diptych.systems.models import new_model
from diptych.train.fit import fit
from diptych.train.run import Run, plain_run


@pytest.fixture(scope="module")
def trained(tiny: Callable[..., Run], table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("systems") / "run"
    fit(systems.build(tiny(), texts=table.split("train").texts()), table, out, device="cpu")
    return out


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return clip_tokenizer()


def small_vit() -> ClipConfig:
    """As open_clip and transformers can hold it, with CLIP's vocabulary."""
    return ClipConfig(
        embed_dim=24,
        image_size=32,
        image_width=64,
        image_layers=(1,),
        image_heads=1,
        patch_size=16,
        text_width=64,
        text_layers=1,
        text_heads=1,
        context=77,
    )


def test_a_trained_run_is_loaded(trained: Path, table: Table, pictures: list[Image.Image]) -> None:
    model = diptych.load(trained, device="cpu")
    images, texts = model.encode_image(pictures), model.encode_text(["a red square", "two words"])
    assert (images.shape, texts.shape) == ((4, 32), (2, 32))
    sample = table.split("train").sample(0)
    item = model.inputs.item(sample, None)  # type: ignore[attr-defined]
    by_hand = model.model.encode_image(item.pixels[None])  # type: ignore[index]
    assert_close(model.encode_image([sample], normalize=False), by_hand.detach())
    run = systems.read_run(trained)
    assert run.model.vocab_size == model.inputs.tokenizer.vocab_size  # type: ignore[attr-defined]


def test_rank_over_a_folder(trained: Path, pictures: list[Image.Image], tmp_path: Path) -> None:
    for place, picture in enumerate(pictures):
        picture.save(tmp_path / f"{place}.png")
    hits = diptych.load(str(trained), device="cpu").rank("a red square", str(tmp_path), top=3)
    assert len(hits) == 3
    assert {hit.path.parent for hit in hits} == {tmp_path}


def test_averaged_weights_are_what_is_loaded(
    tiny: Callable[..., Run], texts: list[str], table: Table, tmp_path: Path
) -> None:
    job = systems.build(tiny("optim.ema=0.99", "optim.lr=0.1", "optim.warmup_steps=0"), texts=texts)
    fit(job, table, tmp_path / "run", device="cpu")
    loaded = systems.load(tmp_path / "run", "cpu").model.state_dict()  # type: ignore[attr-defined]
    assert not torch.equal(loaded["logit_scale"], job.model.state_dict()["logit_scale"])


def test_a_run_without_a_checkpoint(tiny: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(plain_run(tiny())))
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        systems.load(tmp_path, "cpu")


def test_a_repeated_run_is_the_same(texts: list[str], trained: Path) -> None:
    run = systems.read_run(trained)
    assert systems.build(run, texts=texts).run == run


@pytest.mark.parametrize("layout", ["open_clip", "huggingface"])
def test_published_folders_are_loaded(
    tmp_path: Path, clip: Tokenizer, layout: str, pictures: list[Image.Image]
) -> None:
    config = small_vit()
    model = new_model("clip", config, seed=3)
    write_weights(tmp_path, config, model.state_dict(), layout)  # type: ignore[arg-type]
    loaded = diptych.load(tmp_path, device="cpu")
    texts = ["a red square", "<|endoftext|> is a word"]
    assert_close(loaded.encode_image(pictures), systems_encoder(model, config, clip).encode_image(pictures))
    assert_close(loaded.encode_text(texts), systems_encoder(model, config, clip).encode_text(texts))


def test_an_own_vocabulary_beside_published_weights(texts: list[str], tmp_path: Path) -> None:
    words = train_tokenizer(texts, "bpe", 540)
    config = replace(small_vit(), vocab_size=words.vocab_size, end_id=words.end_id)
    write_weights(tmp_path, config, new_model("clip", config).state_dict(), "huggingface")
    with pytest.raises(WeightsError, match=rf"has {words.vocab_size} words and the tokenizer found for it 49408"):
        systems.load(tmp_path, "cpu")
    words.save(tmp_path / "tokenizer")
    assert systems.load(tmp_path, "cpu").encode_text(["a red square"]).shape == (1, 24)


def systems_encoder(model: torch.nn.Module, config: ClipConfig, tokenizer: Tokenizer):
    from diptych.clip.inputs import ClipInputs
    from diptych.tasks.encoder import DualEncoder
    from diptych.train.run import InputSettings

    return DualEncoder(model, ClipInputs(config, InputSettings(), tokenizer), torch.device("cpu"), "by hand")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.pt", "there is no file or folder nowhere.pt. Expected a run folder"),
        ("runs", "there is no file or folder runs"),
        ("nobody/nothing", r"neither from the hub's cache nor from the hub .*pass its folder"),
        ("hf-hub:nobody/nothing", "nobody/nothing is no file or folder here"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    source: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=message):
        diptych.load(source, device="cpu")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(WeightsError, match="holds no weights that are known here; expected OpenAI's"):
        diptych.load(tmp_path, device="cpu")


def test_an_unknown_device(trained: Path) -> None:
    with pytest.raises(UsageError, match="there is no device 'gpu'"):
        diptych.load(trained, device="gpu")


def test_training_begins_with_given_weights(tiny: Callable[..., Run], trained: Path) -> None:
    theirs = systems.read_trained(trained)
    job = systems.build(tiny("training.seed=7"), init=trained)
    assert_close(dict(job.model.state_dict()), dict(theirs.state))
    assert job.run.model.vocab_size == theirs.config.vocab_size
    with pytest.raises(WeightsError, match=r"model\.embed_dim: 32 there, 40 here"):
        systems.build(tiny("model.embed_dim=40"), init=trained)
    for other in ("detector", "uniter"):
        with pytest.raises(WeightsError, match=f"is a clip, and the model to be trained is a {other}; begin from"):
            systems.build(systems.recipe(other, "tiny"), init=trained)


def test_positions_are_resized_for_larger_pictures(tmp_path: Path) -> None:
    config = small_vit()
    write_weights(tmp_path, config, new_model("clip", config, seed=3).state_dict(), "open_clip")
    run = replace(systems.recipe("clip", "vit_b_32"), model=replace(config, image_size=48))
    model = systems.build(run, init=tmp_path).model
    assert isinstance(model, CLIP)
    assert model.visual.positional_embedding.shape == (1 + 9, 64)
