"""Published layouts: recognised, read strictly, never guessed; what they cannot hold is said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.clip.layouts import huggingface, open_clip
from diptych.clip.layouts.layout import mlp_ratio
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import identify, read_weights, resize_positions, write_weights
from diptych.errors import WeightsError

CONFIG = ClipConfig(
    embed_dim=6,
    image_size=24,
    patch_size=8,
    image_width=16,
    image_layers=(2,),
    image_heads=4,
    context=9,
    vocab_size=12,
    end_id=11,
    text_width=8,
    text_layers=2,
    text_heads=2,
    image_mean=(0.1, 0.2, 0.3),
    resize_mode="squash",
)


def model(config: ClipConfig = CONFIG) -> CLIP:
    torch.manual_seed(0)
    return CLIP(config)


@pytest.fixture
def published(tmp_path):
    """A function: a folder in `layout`, written by us."""

    def write(layout):
        write_weights(tmp_path / layout, CONFIG, model().state_dict(), layout)
        return tmp_path / layout

    return write


@pytest.mark.parametrize("layout", ["open_clip", "huggingface"])
def test_there_and_back_keeps_config_and_every_bit(layout, published):
    folder = published(layout)
    assert identify(folder) == layout
    back = read_weights(folder)
    assert back.config == CONFIG and back.layout == layout and back.ignored == {}
    for name, tensor in model().state_dict().items():
        assert torch.equal(back.state[name], tensor), name
    assert not [path for path in folder.iterdir() if path.name.endswith(".partial")]


def test_heads_stay_behind_and_the_temperature_is_written_as_it_is_used(tmp_path):
    clip = model()
    clip.heads["mlm"] = torch.nn.Linear(8, 12)
    torch.nn.init.constant_(clip.logit_scale, 9.0)
    write_weights(tmp_path, CONFIG, clip.state_dict(), "open_clip")
    state = load_file(tmp_path / "open_clip_model.safetensors")
    assert not [name for name in state if "mlm" in name]
    assert state["logit_scale"].exp().item() == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("changes", "layout", "words"),
    [
        ({"text": "cbow"}, "open_clip", "cannot hold this text tower"),
        ({"text_pool": "mean"}, "huggingface", "read at the end token"),
        ({"causal": False}, "open_clip", "causal transformer"),
        ({"image": "conv", "image_layers": (1, 1)}, "open_clip", "no picture tower 'conv'"),
        ({"image": "conv", "image_layers": (1, 1)}, "huggingface", "vit only"),
        ({"end_id": 2}, "huggingface", "end token 2"),
        ({}, "openai", "cannot be written as 'openai'"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(changes, layout, words, tmp_path):
    config = replace(CONFIG, **changes)
    with pytest.raises(WeightsError, match=words):
        write_weights(tmp_path / "out", config, model(config).state_dict(), layout)
    assert not (tmp_path / "out").exists()


def edit(path, change) -> None:
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["model_cfg"]["vision_cfg"].update(qk_norm=True),
            "vision_cfg: qk_norm is True, which is not known",
        ),
        (lambda c: c["model_cfg"]["text_cfg"].update(no_causal_mask=True), "only False is possible here"),
        (lambda c: c["model_cfg"]["text_cfg"].update(pool_type="last"), "pool_type is 'last'"),
        (lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name="roberta-base"), "hf_model_name is 'roberta-base'"),
        (lambda c: c["model_cfg"].update(init_logit_bias=-10), "init_logit_bias is -10"),
        (lambda c: c["preprocess_cfg"].pop("mean"), "expected mean, std"),
        (lambda c: c["preprocess_cfg"].update(interpolation="random"), "one interpolation"),
        (lambda c: c.pop("preprocess_cfg"), "expected model_cfg and preprocess_cfg"),
        (lambda c: c["model_cfg"].update(embed_dim=7), "have another shape: visual.proj"),
    ],
)
def test_an_open_clip_config_of_another_architecture_is_refused(change, words, published):
    folder = published("open_clip")
    edit(folder / open_clip.CONFIG_FILE, change)
    with pytest.raises(WeightsError, match=words):
        read_weights(folder)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", lambda c: c["text_config"].update(hidden_act="gelu"), "same quick_gelu or gelu"),
        ("config.json", lambda c: c["vision_config"].update(num_channels=4), "num_channels"),
        ("config.json", lambda c: c["text_config"].update(intermediate_size=33), "33 wide"),
        ("preprocessor_config.json", lambda c: c.update(resample=7), "resample 7"),
        ("preprocessor_config.json", lambda c: c.update(size={"shortest_edge": 30}), "expected size 24"),
        ("preprocessor_config.json", lambda c: c.pop("image_std"), "std None"),
    ],
)
def test_a_hugging_face_config_of_another_architecture_is_refused(file, change, words, published):
    folder = published("huggingface")
    edit(folder / file, change)
    with pytest.raises(WeightsError, match=words):
        read_weights(folder)


def test_preprocessing_inside_a_newer_processor_file_is_read(published):
    folder = published("huggingface")
    preprocessing = json.loads((folder / huggingface.PREPROCESSOR_FILE).read_text())
    (folder / huggingface.PREPROCESSOR_FILE).unlink()
    (folder / huggingface.PROCESSOR_FILE).write_text(json.dumps({"image_processor": preprocessing}))
    assert read_weights(folder).config == CONFIG


def test_a_file_without_a_config_is_not_guessed(published, tmp_path):
    state = load_file(published("open_clip") / "open_clip_model.safetensors")
    save_file(state, tmp_path / "alone.safetensors")
    with pytest.raises(WeightsError, match=r"no open_clip_config.json.*not guessed"):
        read_weights(tmp_path / "alone.safetensors")
    assert read_weights(tmp_path / "alone.safetensors", CONFIG).config == CONFIG


def test_what_is_no_clip_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "notes.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "notes.txt", tmp_path / "nowhere"):
        assert identify(source) is None
        with pytest.raises(WeightsError, match="no CLIP weights that are known here"):
            read_weights(source)


def test_half_precision_becomes_float32(published):
    folder = published("open_clip")
    file = folder / "open_clip_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    assert {tensor.dtype for tensor in read_weights(folder).state.values()} == {torch.float32}


@pytest.mark.parametrize(("width", "mlp_width"), [(1408, 6144), (1664, 8192), (16, 41), (7, 3), (1408, 6143)])
def test_the_ratio_gives_the_width_back(width, mlp_width):
    assert int(width * mlp_ratio(width, mlp_width)) == mlp_width


def test_resizing_to_the_same_grid_changes_nothing_and_a_conv_has_none():
    state = model().state_dict()
    same, config = resize_positions(state, CONFIG, 24)
    name = "visual.positional_embedding"
    torch.testing.assert_close(same[name], state[name], atol=1e-6, rtol=1e-6)
    assert config == CONFIG
    with pytest.raises(WeightsError, match="25 pixels cannot be cut into cells of 8"):
        resize_positions(state, CONFIG, 25)
    with pytest.raises(WeightsError, match="no grid of positions"):
        resize_positions(state, replace(CONFIG, image="conv"), 48)
