"""`diptych weights identify` and `convert`: what they say, and that the other libraries load what was written."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import diptych
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import write_weights
from diptych.data.tokenizers import train_tokenizer
from diptych.overrides import to_plain
from diptych.systems.models import new_model

TEXTS = ["a red boat", "two cups on a table", "<|endoftext|> is a word"]
CONFIG = ClipConfig(
    embed_dim=24,
    image_size=32,
    image_width=64,
    image_layers=(1,),
    image_heads=1,
    patch_size=16,
    text_width=64,
    text_layers=1,
    text_heads=1,
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip folder with CLIP's vocabulary."""
    folder = tmp_path_factory.mktemp("weights") / "published"
    write_weights(folder, CONFIG, new_model("clip", CONFIG, seed=1).state_dict(), "open_clip")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip folder with a small vocabulary of its own."""
    folder = tmp_path_factory.mktemp("weights") / "own"
    words = train_tokenizer(TEXTS * 9, "bpe", 530)
    config = replace(CONFIG, vocab_size=words.vocab_size, end_id=words.end_id)
    write_weights(folder, config, new_model("clip", config, seed=1).state_dict(), "open_clip")
    words.save(folder / "tokenizer")
    return folder


def test_identify_names_what_it_found(
    exit_code: Callable[..., int], published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("weights", "identify", published, "--json", tmp_path / "new" / "found.json") == 0
    shown = capsys.readouterr().out
    for word in ("open_clip", "vit, 1 layers, 64 wide, patches of 16", "quick_gelu", "49408 words, at most 77 tokens"):
        assert word in shown
    assert f"Next: diptych weights convert {published} published-diptych --to diptych\n" in shown
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    assert (found["layout"], found["config"]["embed_dim"]) == ("open_clip", 24)
    assert found["num_parameters"] == sum(one.numel() for one in CLIP(CONFIG).parameters())


@pytest.mark.parametrize("layout", ["diptych", "huggingface", "open_clip"])
def test_there_and_back(
    exit_code: Callable[..., int], own: Path, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("weights", "convert", own, tmp_path / "out", "--to", layout) == 0
    assert f"Next: diptych weights identify {tmp_path / 'out'}" in capsys.readouterr().out.replace("\n", " ")
    assert exit_code("weights", "identify", tmp_path / "out") == 0
    assert layout in capsys.readouterr().out
    assert exit_code("weights", "convert", tmp_path / "out", tmp_path / "back", "--to", "open_clip") == 0
    first, last = diptych.load(own, device="cpu"), diptych.load(tmp_path / "back", device="cpu")
    assert_close(last.encode_text(TEXTS), first.encode_text(TEXTS), rtol=0, atol=0)


def test_transformers_loads_weights_and_vocabulary(
    exit_code: Callable[..., int], published: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    assert exit_code("weights", "convert", published, tmp_path / "out", "--to", "huggingface") == 0
    model = transformers.CLIPModel.from_pretrained(tmp_path / "out")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "out")
    words = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model.get_text_features(**words)
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    ours = diptych.load(published, device="cpu").encode_text(TEXTS[:2], normalize=False)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_open_clip_loads_what_a_run_of_ours_became(
    exit_code: Callable[..., int], published: Path, tmp_path: Path
) -> None:
    open_clip = pytest.importorskip("open_clip")
    assert exit_code("weights", "convert", published, tmp_path / "run", "--to", "diptych") == 0
    assert exit_code("weights", "convert", tmp_path / "run", tmp_path / "out", "--to", "open_clip") == 0
    model = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    with torch.no_grad():
        theirs = model.encode_text(tokenizer(TEXTS))
    ours = diptych.load(tmp_path / "run", device="cpu").encode_text(TEXTS, normalize=False)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_vocabulary_of_its_own_is_told(
    exit_code: Callable[..., int], own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = diptych.load(own, device="cpu").encode_text(TEXTS)
    for layout, told in (("open_clip", True), ("huggingface", False), ("diptych", False)):
        assert exit_code("weights", "convert", own, tmp_path / layout, "--to", layout) == 0
        assert ("is its own and lies in" in capsys.readouterr().out) == told
        assert_close(diptych.load(tmp_path / layout, device="cpu").encode_text(TEXTS), expected)


def test_what_goes_wrong_is_said(
    exit_code: Callable[..., int], published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    cases = (
        (("convert", published, tmp_path / "out", "--to", "huggingfase"), 2, "did you mean 'huggingface'"),
        (("convert", published, tmp_path / "full", "--to", "diptych"), 1, "holds something already"),
        (("identify", tmp_path / "full"), 1, "holds no weights that are known here; expected OpenAI's .pt"),
        (("identify", tmp_path / "nothing.pt"), 1, "there is no file or folder"),
    )
    for arguments, code, message in cases:
        assert exit_code("weights", *arguments) == code
        assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.fixture(scope="module")
def bare(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `published` without the config beside them."""
    folder = tmp_path_factory.mktemp("weights") / "bare"
    folder.mkdir()
    return shutil.copy(published / "open_clip_model.safetensors", folder / "laion's.safetensors")


def test_weights_that_do_not_say_what_they_are_are_told(
    exit_code: Callable[..., int],
    published: Path,
    bare: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = Path("sizes.json")
    said.write_text(json.dumps(to_plain(CONFIG)))
    assert exit_code("weights", "identify", bare) == 1
    assert "--config RECIPE" in capsys.readouterr().err.replace("\n", " ")
    assert exit_code("weights", "identify", bare, "--config", said) == 0
    command = capsys.readouterr().out.rpartition("Next: ")[2]
    assert exit_code(*shlex.split(command)[1:]) == 0  # the Next line, as it is pasted
    expected = diptych.load(published, device="cpu").encode_text(TEXTS)
    for loaded in (
        diptych.load("laion's.safetensors-diptych", device="cpu"),
        diptych.load(bare, device="cpu", config=CONFIG),
        diptych.load(bare, device="cpu", config=said),
    ):
        assert_close(loaded.encode_text(TEXTS), expected, rtol=0, atol=0)
    assert exit_code("weights", "identify", bare, "--config", said) == 0
    assert shlex.split(capsys.readouterr().out.rpartition("Next: ")[2])[4] == "laion's.safetensors-diptych-2"


def test_a_config_that_is_wrong_is_told(
    exit_code: Callable[..., int],
    published: Path,
    bare: Path,
    own: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "typo.json").write_text('{"embed_dmi": 24}')
    (tmp_path / "list.json").write_text("[24]")
    assert exit_code("weights", "convert", own, tmp_path / "run", "--to", "diptych") == 0
    for source, config, code, message in (
        (bare, "vit_h14", 2, "there is no recipe 'vit_h14'; did you mean 'vit_h_14'"),
        (bare, "vit_h_14", 1, "keys that the model needs are missing"),
        (bare, tmp_path / "typo.json", 2, "did you mean 'model.embed_dim'"),
        (bare, tmp_path / "list.json", 2, "holds list; expected an object"),
        (tmp_path / "run", "vit_h_14", 2, "says what model it is; leave the config out"),
    ):
        assert exit_code("weights", "identify", source, "--config", config) == code
        assert message in capsys.readouterr().err.replace("\n", " ")
