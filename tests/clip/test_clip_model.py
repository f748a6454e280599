"""CLIP's sizes, initialisation, temperature and inputs, as the paper and its release have them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diptych.clip import recipes
from diptych.clip.layouts import openai
from diptych.clip.model import CLIP, OPENAI_MEAN, OPENAI_STD, ClipConfig, bounded
from diptych.data.batch import Batch, ImagePart, TextPart
from diptych.errors import UsageError

PUBLISHED = {
    "rn50": (489, 102_007_137),
    "rn101": (795, 119_688_033),
    "rn50x4": (669, 178_300_601),
    "rn50x16": (921, 290_979_217),
    "rn50x64": (1353, 623_258_305),
    "vit_b_32": (302, 151_277_313),
    "vit_b_16": (302, 149_620_737),
    "vit_l_14": (446, 427_616_513),
    "vit_l_14_336": (446, 427_944_193),
    "vit_h_14": (686, 986_109_441),
    "vit_g_14": (782, 1_366_678_273),
    "vit_big_g_14": (974, 2_539_567_105),
}
"""Recipe -> tensors and parameters of its published weights."""
OURS = (
    "tiny", "demo", "demo_sigmoid", "flickr8k", "figure2_captioning", "figure2_bag_of_words", "figure2_cbow",
    "figure2_transformer",
)  # fmt: skip
SMALL = ClipConfig(
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
)


def test_every_published_model_is_a_recipe():
    assert {*PUBLISHED, *OURS} == set(recipes.NAMES)


@pytest.mark.parametrize(
    ("name", "num_tensors", "num_parameters"), [(name, *sizes) for name, sizes in PUBLISHED.items()]
)
def test_sizes_are_the_published_ones(name, num_tensors, num_parameters):
    with torch.device("meta"):
        state = openai.KEYS.to_theirs(CLIP(recipes.named(name).model).state_dict())
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert len(state) == num_tensors
    assert sum(value.numel() for name, value in state.items() if not name.endswith(buffers)) == num_parameters


def test_the_base_text_tower_has_the_papers_63_million_parameters():
    with torch.device("meta"):
        model = CLIP(recipes.vit_b_32().model)
    assert round(sum(parameter.numel() for parameter in model.text.parameters()) / 1e6) == 63


def spread(model: CLIP, name: str) -> float:
    return model.get_parameter(name).std().item()


def test_initial_values_are_spread_as_in_the_release():
    torch.manual_seed(0)
    config = ClipConfig(
        patch_size=16, image_width=384, image_layers=(2,), text_width=256, text_layers=3, vocab_size=900, end_id=899
    )
    model = CLIP(config)
    d, w, depth = config.text_width, config.image_width, config.text_layers
    block = "text.transformer.resblocks.1."
    expected = {
        "text.token_embedding.weight": 0.02,
        "text.positional_embedding": 0.01,
        block + "attn.in_proj_weight": d**-0.5,
        block + "attn.out_proj.weight": d**-0.5 * (2 * depth) ** -0.5,
        block + "mlp.c_proj.weight": d**-0.5 * (2 * depth) ** -0.5,
        block + "mlp.c_fc.weight": (2 * d) ** -0.5,
        "text.text_projection": d**-0.5,
        "visual.class_embedding": w**-0.5,
        "visual.positional_embedding": w**-0.5,
        "visual.proj": w**-0.5,
        # The framework's own: uniform within b has spread b / √3; xavier's b is √(6 / (in + out)), a linear's in**-0.5.
        "visual.transformer.resblocks.0.attn.in_proj_weight": math.sqrt(6 / (w + 3 * w)) / math.sqrt(3),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": w**-0.5 / math.sqrt(3),
        "visual.conv1.weight": (3 * 16 * 16) ** -0.5 / math.sqrt(3),
    }
    for name, std in expected.items():
        assert spread(model, name) == pytest.approx(std, rel=0.1), name
        assert abs(model.get_parameter(name).mean().item()) < 0.25 * std, name
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    for name, parameter in model.named_parameters():
        if "attn.in_proj_bias" in name or "attn.out_proj.bias" in name or (".ln_" in name and "bias" in name):
            assert not parameter.any(), name
        if ".ln_" in name and "weight" in name:
            assert (parameter == 1).all(), name


def test_a_resnets_initial_values_are_spread_as_in_the_release():
    torch.manual_seed(0)
    model = CLIP(
        replace(SMALL, image="resnet", image_size=64, image_width=16, image_layers=(1, 2, 1, 1), image_heads=8)
    )
    for name in ("q_proj", "k_proj", "v_proj"):
        assert spread(model, f"visual.attnpool.{name}.weight") == pytest.approx((16 * 32) ** -0.5, rel=0.05)
    assert spread(model, "visual.attnpool.positional_embedding") == pytest.approx((16 * 32) ** -0.5, rel=0.1)
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            assert (parameter == (0 if "layer" in name else 1)).all(), name


@pytest.mark.parametrize("value", [1.0, math.log(100) + 0.5])
@pytest.mark.parametrize("gradient", [1.0, -1.0])
def test_a_temperature_above_its_bound_can_only_come_back(value, gradient):
    logit_scale = torch.tensor(value, requires_grad=True)
    (gradient * bounded(logit_scale, math.log(100))).backward()
    above = value > math.log(100)
    assert logit_scale.grad.item() == (0.0 if above and gradient < 0 else gradient)


def test_cosines_are_never_multiplied_by_more_than_100():
    model = CLIP(SMALL)
    torch.nn.init.constant_(model.logit_scale, 9.0)
    assert model.scale.item() == pytest.approx(100.0)


def test_uint8_pixels_are_normalised_as_the_release_does():
    pixels = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    mean, std = torch.tensor(OPENAI_MEAN)[:, None, None], torch.tensor(OPENAI_STD)[:, None, None]
    expected = (pixels / 255 - mean) / std
    model = CLIP(SMALL).eval()
    assert_close(model.normalised_images(pixels), expected, atol=1e-5, rtol=1e-5)
    assert_close(model.encode_image(pixels), model.encode_image(expected), atol=1e-5, rtol=1e-4)
    assert "pixel_mean" not in model.state_dict()


@pytest.mark.parametrize("image", ["vit", "resnet", "conv"])
@pytest.mark.parametrize("text", ["transformer", "cbow"])
def test_every_pair_of_towers_meets_in_one_space(image, text):
    layers = {"vit": (2,), "resnet": (1, 1, 1, 1), "conv": (1, 2)}[image]
    config = replace(SMALL, image=image, text=text, image_size=64, image_layers=layers, image_width=8, image_heads=2)
    model = CLIP(config).eval()
    ids = torch.tensor([[10, 3, 11, 0], [10, 4, 5, 11]])
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    batch = Batch(
        keys=("a", "b"),
        group=torch.tensor([3, 4]),
        text=TextPart(ids=ids, mask=ids > 0),
        image=ImagePart(pixels=pixels),
    )
    dual = model(batch)
    assert dual.image.shape == dual.text.shape == (2, 6)
    assert dual.group.tolist() == [3, 4]
    assert dual.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    plain = [parameter.grad for parameter in backward(model, batch)]
    model.activation_checkpointing = True
    for one, other in zip(plain, [parameter.grad for parameter in backward(model, batch)], strict=True):
        assert_close(one, other, atol=0, rtol=0)


def backward(model: CLIP, batch: Batch):
    model.zero_grad(set_to_none=True)
    dual = model(batch)
    (dual.scale * (dual.image * dual.text).sum()).backward()
    return [parameter for parameter in model.parameters() if parameter.grad is not None]


def test_the_probe_reads_the_class_token_before_the_projection():
    model = CLIP(SMALL).eval()
    pixels = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    features = model.image_features(pixels)
    assert features.shape == (2, 16)
    assert_close(features @ model.visual.proj, model.encode_image(pixels))


def test_names_that_do_not_exist_are_told():
    with pytest.raises(UsageError, match="no picture tower 'resnt'; did you mean 'resnet'"):
        CLIP(replace(SMALL, image="resnt"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no text tower"):
        CLIP(replace(SMALL, text="lstm"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a vit has one depth"):
        CLIP(replace(SMALL, image_layers=(3, 4)))
