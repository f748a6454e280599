"""UNITER by name: its files through `diptych.load`, `weights identify` and `convert`, and as a beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import diptych
from diptych import systems
from diptych.data.regions import Regions
from diptych.data.sample import Sample
from diptych.errors import DataError, UsageError, WeightsError
from diptych.overrides import apply_overrides
from diptych.systems import trained
from diptych.tasks import pairing
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.uniter.heads import HeadSizes, new_heads
from diptych.uniter.model import UNITER, UniterConfig
from diptych.uniter.weights import write_weights

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "A", "dog", "##s", "runs", "on", "grass")
CONFIG = UniterConfig(
    width=8,
    depth=1,
    heads=2,
    mlp_width=12,
    vocab_size=12,
    end_id=3,
    positions=9,
    context=9,
    feature_width=5,
    num_classes=3,
)
HEADS = {"mlm": HeadSizes(), "mrfr": HeadSizes(), "mrc": HeadSizes(outputs=4), "itm": HeadSizes(outputs=2)}


def write(folder: Path, heads=HEADS, config=CONFIG, words=WORDS) -> Path:
    """A file of weights with BERT's vocabulary beside it."""
    torch.manual_seed(5)
    model = UNITER(config)
    model.heads = new_heads(heads, config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    write_weights(folder, config, model.state_dict(), "uniter")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    sizes = transformers.BertConfig(
        vocab_size=12,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=9,
    )
    torch.manual_seed(6)
    transformers.BertForPreTraining(sizes).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def sample(text: str, seed: int = 0, width: int = 5) -> Sample:
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 4))
    regions = Regions(
        height_px=None,
        width_px=None,
        boxes=np.sort(rng.random((num, 2, 2)), axis=1).reshape(num, 4).astype(np.float32),
        features=rng.standard_normal((num, width)).astype(np.float32),
        scores=np.ones(num, dtype=np.float32),
    )
    return Sample(key=f"{seed}", group="", image=None, texts=(text,), fields={"regions": regions})


ROWS = [sample("A dog runs", 1), sample("grass", 2), sample("dogs on grass !", 3)]
TEXTS = [row.texts[0] for row in ROWS]
PAIRS = [(0, 0), (1, 1), (2, 2), (0, 2)]


def odds(source: Path) -> torch.Tensor:
    return diptych.load(source, device="cpu").match(ROWS, TEXTS, PAIRS)


def test_each_word_is_shared_out_among_the_regions(released):
    model = diptych.load(released, device="cpu")
    found = model.align(ROWS[2], TEXTS[2])
    assert found.words == ("dog", "##s", "on", "grass", "!")
    assert found.shares.shape == (5, len(ROWS[2].fields["regions"]))
    assert (found.shares >= 0).all()
    assert_close(found.shares.sum(dim=1), torch.ones(5))
    assert found.odds == pytest.approx(float(model.match(ROWS, TEXTS, [(2, 2)])), abs=1e-5)


def test_attention_between_words_and_regions_is_the_layers_own(released):
    """Of the one layer, by hand: softmax of the products of queries and keys over all words and regions."""
    model = diptych.load(released, device="cpu")
    text, num = "grass runs", len(ROWS[2].fields["regions"])
    found = model.align(ROWS[2], text)
    item = replace(model.inputs.item(ROWS[2], None), text_ids=model.inputs.text_ids(text))
    with torch.no_grad():
        parts = model.model.embed(model.inputs.collate([item]))
        states = torch.cat([parts["text"].hidden[0], parts["regions"].hidden[0]])  # (4 + R, 8)
        attn = model.model.encoder.blocks[0].attn
        query, key, _ = (states @ attn.in_proj_weight.T + attn.in_proj_bias).split(8, dim=1)
        heads = [(query[:, one] @ key[:, one].T / 2).softmax(dim=1) for one in (slice(0, 4), slice(4, 8))]
    mean = (heads[0] + heads[1]) / 2
    assert found.words == ("grass", "runs") and found.attention.shape == (1, 2, num)
    assert_close(found.attention[0], mean[1:3, 4:])
    assert_close(found.attention_back[0], mean[4:, 1:3].T)


def test_a_released_file_is_loaded_and_asked(released):
    model = diptych.load(released / "model.safetensors", device="cpu")
    assert isinstance(model, FusedMatcher)
    with torch.inference_mode():
        fused = model.model(model.inputs.collate([model.inputs.item(row, None) for row in ROWS]))
        logits = model.model.heads["itm"](fused.pooled)
    assert fused.text_mask.sum(dim=1).tolist() == [5, 3, 7]
    found = model.match(ROWS, TEXTS, PAIRS, batch=2)
    assert_close(found[:3], logits[:, 1] - logits[:, 0])
    assert not torch.isclose(found[3], found[0])


@pytest.mark.parametrize("most", [1, 8, 10_000])
def test_embedded_once_pairs_score_as_when_each_is_read_alone(released, monkeypatch, most):
    monkeypatch.setattr(pairing, "CACHED", most)
    model = diptych.load(released, device="cpu")
    pairs = [(row, text) for text in (2, 0, 1, 2) for row in (1, 0, 2, 0)]
    items = [
        replace(model.inputs.item(ROWS[row], None), text_ids=model.inputs.text_ids(TEXTS[text])) for row, text in pairs
    ]
    with torch.inference_mode():
        logits = [model.model.heads["itm"](model.model(model.inputs.collate([item])).pooled)[0] for item in items]
    assert_close(model.match(ROWS, TEXTS, pairs, batch=3), torch.stack([found[1] - found[0] for found in logits]))
    assert model.match(ROWS, TEXTS, []).shape == (0,)


def test_a_fingerprint_is_of_the_weights_and_the_words(released, tmp_path):
    model, same = diptych.load(released, device="cpu"), diptych.load(released, device="cpu")
    assert model.fingerprint() == same.fingerprint()
    with torch.no_grad():
        same.model.pooler.dense.bias[0] += 1e-6
    assert model.fingerprint() != same.fingerprint()
    other = diptych.load(write(tmp_path, words=[*WORDS[:-1], "zebra"]), device="cpu")
    assert model.fingerprint() != other.fingerprint()


def test_a_model_without_the_head_for_matching_says_so(tmp_path):
    with pytest.raises(UsageError, match="no head for image-text matching, only vqa"):
        odds(write(tmp_path, {"vqa": HeadSizes(outputs=4)}))


def test_rows_that_do_not_fit_are_told(released):
    with pytest.raises(DataError, match="region features of 4 numbers; this model reads 5"):
        diptych.load(released, device="cpu").match([sample("A dog", width=4)], ["A dog"], [(0, 0)])


def test_one_stream_is_not_taken_where_two_towers_are_needed(released):
    with pytest.raises(WeightsError, match="expected a model of two towers"):
        systems.load_towers(released, "cpu")
    assert isinstance(systems.load_any(released, "cpu"), FusedMatcher)


def test_words_that_no_vocabulary_names(tmp_path):
    """VCR's models have 81 of them; a vocabulary with more words than the model is another's."""
    more = write(tmp_path / "more", {"vcr": HeadSizes(outputs=2)}, replace(CONFIG, vocab_size=15))
    assert diptych.load(more, device="cpu").model.text.words.weight.shape == (15, 8)
    other = write(tmp_path / "other", words=(*WORDS, "cat"))
    with pytest.raises(WeightsError, match=r"has 12 words and the tokenizer .* 13; put the model's own .*vocab\.txt"):
        diptych.load(other, device="cpu")


def test_what_a_strangers_file_is(released, bert, tmp_path, spoken):
    def identified(file: Path) -> str:
        code, told, _ = spoken("weights", "identify", file)
        assert code == 0
        return " ".join(told.split())

    told = identified(released)
    assert "layout uniter" in told and "mlm, mrfr, mrc, itm (as pre-trained)" in told
    assert "1 layers, 8 wide, 2 attention heads" in told and "features of 5 numbers" in told
    told = identified(write(tmp_path, {"nlvr2_paired_attn": HeadSizes(outputs=2)}))
    assert "nlvr2_paired_attn (as fine-tuned for NLVR2)" in told
    told = identified(bert)
    assert "layout bert" in told and "none: the text side of a UNITER" in told
    assert f"diptych train uniter base_indomain --init {bert} --set model.width=8 --set model.depth=1" in told
    assert "--set model.positions=9 --set model.context=9 --data DATA" in told


def test_there_and_back(released, tmp_path, exit_code):
    assert exit_code("weights", "convert", released, tmp_path / "ours", "--to", "diptych") == 0
    assert exit_code("weights", "convert", tmp_path / "ours", tmp_path / "theirs", "--to", "uniter") == 0
    first, last = load_file(released / "model.safetensors"), load_file(tmp_path / "theirs" / "model.safetensors")
    assert first.keys() == last.keys() and all(torch.equal(first[name], last[name]) for name in first)
    assert torch.equal(odds(tmp_path / "ours"), odds(released))
    assert torch.equal(odds(tmp_path / "theirs"), odds(released))


def begun(init: Path, *settings: str):
    sizes = (
        *("width=8", "depth=1", "heads=2", "mlp_width=12", "context=9", "positions=9", "feature_width=5"),
        *settings,
    )
    recipe = apply_overrides(systems.recipe("uniter", "tiny"), [f"model.{one}" for one in sizes])
    return systems.build(recipe, init=init)


def test_a_training_begins_with_released_weights_and_their_heads(released):
    state = begun(released, "num_classes=3").model.state_dict()
    told = systems.read_trained(released).state
    assert state.keys() == told.keys()
    assert all(torch.equal(state[name], told[name]) for name in state)
    with pytest.raises(WeightsError, match=r"model\.num_classes: 3 there, 4 here"):
        begun(released, "num_classes=4")
    with pytest.raises(WeightsError, match=r"model\.feature_width: 5 there, 6 here"):
        begun(released, "num_classes=3", "feature_width=6")


def test_a_bert_by_its_name_on_the_hub(bert, monkeypatch):
    asked: list[str] = []

    def download_first(repository, names):
        found = next(bert / name for name in names if (bert / name).is_file())
        asked.append(f"{repository}/{found.name}")
        return found

    monkeypatch.setattr(trained, "download_first", download_first)
    assert systems.describe("someone/a-bert").layout == "bert"
    assert asked == [f"someone/a-bert/{name}" for name in ("config.json", "model.safetensors", "vocab.txt")]


def test_a_training_begins_with_a_bert(bert):
    job = begun(bert, "num_classes=7", "feature_width=6")
    state, told = job.model.state_dict(), systems.read_trained(bert).state
    assert all(torch.equal(state[name], told[name]) for name in told)
    assert {name.split(".")[0] for name in state.keys() - told.keys()} == {"regions", "heads"}
    assert job.inputs.tokenizer.encode("A dog", 9) == [2, 6, 7, 3]
    with pytest.raises(
        WeightsError, match=r"lacks \d+ tensors of a uniter, .* begin a training with: diptych train uniter"
    ):
        diptych.load(bert, device="cpu")
