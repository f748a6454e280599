"""UNITER's text side against Hugging Face's BERT, whose folders it begins from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diptych.data.batch import TextPart
from diptych.errors import WeightsError
from diptych.uniter.heads import new_heads, sizes_in
from diptych.uniter.model import UNITER
from diptych.uniter.weights import fitted, identify, read_weights

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def sizes():
    return transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=11,
        hidden_act="gelu",
    )


def saved(kind, sizes, folder, safe=True):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(sizes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if safe:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return model


def ours_of(folder, feature_width=6):
    published = read_weights(folder)
    wanted = replace(published.config, feature_width=feature_width, dropout=0.0)
    state, config, fresh = fitted(published.state, published.config, wanted)
    assert config == wanted
    model = UNITER(config)
    model.heads = new_heads(sizes_in(state), config)
    drawn = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(fresh)}
    model.load_state_dict({**state, **drawn})
    return model.eval(), published, fresh


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["BertModel", "BertForPreTraining", "BertForMaskedLM"])
@pytest.mark.parametrize("safe", [True, False])
def test_states_and_words_are_those_of_bert(sizes, tmp_path, kind, safe):
    theirs = saved(kind, sizes, tmp_path, safe)
    assert identify(tmp_path) == "bert"
    ours, published, fresh = ours_of(tmp_path)
    assert fresh == (("regions.", "pooler.") if kind == "BertForMaskedLM" else ("regions.",))
    ids = torch.randint(1, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
    types = (torch.arange(9) > 2).long().expand(3, -1)
    fused = ours.fuse({"text": ours.embed_text(TextPart(ids=ids, mask=mask, types=types))})
    encoder = theirs if kind == "BertModel" else theirs.bert
    expected = encoder(input_ids=ids, attention_mask=mask.long(), token_type_ids=types)
    assert_close(fused.text[mask], expected.last_hidden_state[mask], atol=1e-5, rtol=1e-5)
    if expected.pooler_output is not None:
        assert_close(fused.pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    if kind != "BertModel":
        logits = theirs.cls.predictions(expected.last_hidden_state)
        assert_close(ours.heads["mlm"](fused.text[mask], fused.word_table), logits[mask], atol=1e-4, rtol=1e-5)
    assert all("sentence" in reason or "count" in reason for reason in published.ignored.values())


@pytest.mark.parametrize(("name", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-5)])
def test_another_kind_of_bert_is_refused(sizes, tmp_path, name, value):
    saved("BertModel", transformers.BertConfig(**{**sizes.to_dict(), name: value}), tmp_path)
    with pytest.raises(WeightsError, match=f"{name} is {value!r}; BERT's and UNITER's is"):
        read_weights(tmp_path)
