"""Published files of UNITER and of BERT: old names, halves, grown tables, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.errors import DataError, WeightsError
from diptych.uniter.heads import NAMES, HeadSizes, new_heads, sizes_in
from diptych.uniter.layouts import released
from diptych.uniter.model import UNITER, UniterConfig
from diptych.uniter.weights import fitted, identify, read_weights, write_weights

CONFIG = UniterConfig(
    width=8, depth=2, heads=2, mlp_width=12, vocab_size=30, positions=9, context=9, feature_width=5, num_classes=3
)
PRETRAINED = {"mlm": HeadSizes(), "mrfr": HeadSizes(), "mrc": HeadSizes(outputs=4), "itm": HeadSizes(outputs=2)}
SIZES = PRETRAINED | {
    "vqa": HeadSizes(outputs=6),
    "ve": HeadSizes(outputs=3),
    "vcr": HeadSizes(outputs=2),
    "nlvr2_triplet": HeadSizes(outputs=2),
    "nlvr2_paired": HeadSizes(outputs=2),
    "nlvr2_paired_attn": HeadSizes(outputs=2),
    "rank": HeadSizes(),
    "re": HeadSizes(layers=2),
}


def state_of(heads, config=CONFIG):
    torch.manual_seed(3)
    model = UNITER(config)
    model.heads = new_heads(heads, config)
    return {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


@pytest.fixture
def state():
    return state_of(PRETRAINED)


@pytest.fixture
def theirs(state, tmp_path):
    """A pre-trained model as the release writes it."""
    write_weights(tmp_path / "written", CONFIG, state, "uniter")
    return load_file(tmp_path / "written" / "model.safetensors")


def put(file, tensors):
    """A file with its config beside it."""
    (torch.save if file.suffix == ".pt" else save_file)(tensors, file)
    file.with_suffix(".json").write_text(json.dumps({"num_attention_heads": CONFIG.heads, "hidden_act": "gelu"}))
    return file


def same(published, state):
    assert published.state.keys() == state.keys()
    for name, tensor in published.state.items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_every_head_goes_there_and_back(tmp_path, name):
    state = state_of({name: SIZES[name]})
    write_weights(tmp_path, CONFIG, state, "uniter")
    published = read_weights(tmp_path)
    same(published, state)
    assert sizes_in(published.state) == {name: SIZES[name]}
    model = UNITER(published.config)
    model.heads = new_heads(sizes_in(published.state), published.config)
    model.load_state_dict(published.state)


def test_a_head_for_regions_of_one_layer(tmp_path):
    state = state_of({"re": HeadSizes()})
    write_weights(tmp_path, CONFIG, state, "uniter")
    assert {"re_output.weight", "re_output.bias"} <= load_file(tmp_path / "model.safetensors").keys()
    same(read_weights(tmp_path), state)


def test_sizes_come_from_the_tensors_and_the_rest_from_the_config_beside_them(theirs, state, tmp_path):
    file = put(tmp_path / "uniter-small.pt", theirs)
    assert read_weights(file).config == CONFIG
    file.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="states of 8 numbers in 0 heads"):
        read_weights(file)
    same(read_weights(file, CONFIG), state)


OLD = {
    "norms": lambda name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
    "a BERT's prefix": lambda name: name.replace("uniter.", "bert."),
    "no prefix": lambda name: name.replace("uniter.", ""),
    "a wrapper": lambda name: f"module.{name}",
    "the first release's head": lambda name: name.replace("itm_output.", "ITM."),
}


@pytest.mark.parametrize("kind", OLD)
@pytest.mark.parametrize("name", ["old.pt", "old.safetensors"])
def test_old_names(theirs, state, tmp_path, kind, name):
    renamed = {OLD[kind](key): tensor for key, tensor in theirs.items()}
    assert renamed.keys() != theirs.keys()
    file = put(tmp_path / name, renamed)
    assert identify(file) == "uniter"
    same(read_weights(file), state)


def test_half_precision(theirs, state, tmp_path):
    published = read_weights(put(tmp_path / "half.pt", {name: tensor.half() for name, tensor in theirs.items()}))
    same(published, {name: tensor.half().float() for name, tensor in state.items()})


def test_a_file_without_second_names(theirs, state, tmp_path):
    for name in released.WRITTEN_TIED.values():
        del theirs[name]
    same(read_weights(put(tmp_path / "once.pt", theirs)), state)


@pytest.mark.parametrize("name", released.WRITTEN_TIED.values())
def test_tied_tensors_that_differ_are_refused(theirs, tmp_path, name):
    theirs[name] = theirs[name] + 1
    with pytest.raises(WeightsError, match=f"{name} and .* are one tensor in the model, and differ in the file"):
        read_weights(put(tmp_path / "apart.pt", theirs))


def test_missing_unexpected_and_misshapen_tensors_are_named(theirs, tmp_path):
    bias = "uniter.pooler.dense.bias"
    for name, tensors, told in (
        ("less", {name: tensor for name, tensor in theirs.items() if name != bias}, f"model needs are missing: {bias}"),
        ("more", {**theirs, "cls.extra": torch.zeros(2)}, r"1 keys have no place in the model: cls\.extra"),
        ("twice", {**theirs, "bert.pooler.dense.bias": torch.zeros(8)}, f"has {bias} twice"),
        ("short", {**theirs, bias: torch.zeros(4)}, rf"tensors have another shape: {bias} is \(4,\)"),
    ):
        with pytest.raises(WeightsError, match=told):
            read_weights(put(tmp_path / f"{name}.pt", tensors))


def test_the_row_that_masks_nothing_is_left_out(theirs, state, tmp_path):
    """The release zeroes it at every masked step; what a file has there is never used."""
    theirs[released.MASK][0] = 9
    same(read_weights(put(tmp_path / "row.pt", theirs)), state)


def test_files_of_others_are_not_taken_for_uniters(tmp_path):
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "clip.safetensors")
    (tmp_path / "text.pt").write_text("no weights")
    for source in (tmp_path / "clip.safetensors", tmp_path / "text.pt", tmp_path):
        assert identify(source) is None
    with pytest.raises(WeightsError, match=r"holds no UNITER weights; expected UNITER's \.pt"):
        read_weights(tmp_path / "clip.safetensors")


def test_only_the_released_layout_is_written(state, tmp_path):
    with pytest.raises(WeightsError, match="written as uniter or diptych, found 'open_clip'"):
        write_weights(tmp_path, CONFIG, state, "open_clip")


@pytest.mark.parametrize(("types", "copied"), [(3, 1), (4, 0)])
def test_a_grown_table_of_types_begins_as_the_release_lets_it(state, types, copied):
    wanted = replace(CONFIG, types=types, dropout=0.3, context=5)
    grown, config, fresh = fitted(state, CONFIG, wanted)
    assert config == wanted and fresh == ()
    table, before = grown["text.types.weight"], state["text.types.weight"]
    assert torch.equal(table[:2], before)
    assert all(torch.equal(row, before[copied]) for row in table[2:]) and len(table) == types


def test_what_the_weights_mean_is_not_changed_to_fit(state):
    wanted = replace(CONFIG, feature_width=6, num_classes=9, detector_hash="abc")
    _, config, _ = fitted(state, CONFIG, wanted)
    assert (config.feature_width, config.num_classes) == (5, 3)
    assert config.detector_hash == "abc", "which detector it was is not known, so that any may be"
    with pytest.raises(
        DataError, match=r"regions are of .* \(weights abc\), and .* with those of R101 \(weights def\)"
    ):
        fitted(state, replace(CONFIG, detector="R101", detector_hash="def"), wanted)
