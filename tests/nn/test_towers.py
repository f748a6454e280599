"""The picture and text towers: shapes that the papers state, padding, batch norm under recomputation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diptych.errors import MissingExtraError, ShapeError, UsageError
from diptych.nn.convnet import ConvNet
from diptych.nn.resnet import Bottleneck, ModifiedResNet
from diptych.nn.text import BagOfWords, TextTransformer, first_end, masked_mean
from diptych.nn.timm_tower import TimmTower
from diptych.nn.vit import VisionTransformer

START, END, VOCAB, CONTEXT = 10, 7, 12, 9  # the end token is not the largest id on purpose


def text_tower(**settings) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(VOCAB, CONTEXT, 8, 2, 2, activation="gelu", embed_dim=6, end_id=END, **settings)


def resnet() -> ModifiedResNet:
    torch.manual_seed(0)
    return ModifiedResNet(64, 8, (1, 2, 1, 1), heads=4, embed_dim=6)


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(24, 8, 16, 2, 4, mlp_width=40, activation="quick_gelu", embed_dim=6)


def convnet() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(32, 4, (1, 2, 1), embed_dim=6)


def padded(rows: list[list[int]], length: int, value: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([row + [value] * (length - len(row)) for row in rows])
    return ids, torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]


TEXTS = [[START, 3, 4, 11, END], [START, END], [START, 5, 5, END]]


@pytest.mark.parametrize("settings", [{}, {"causal": False}, {"causal": False, "pool": "mean"}, {"pool": "mean"}])
@pytest.mark.parametrize("padding", [0, END, 11])
def test_padding_never_changes_a_text(settings, padding):
    tower = text_tower(**settings)
    short = tower(*padded(TEXTS, 5, padding))
    assert_close(tower(*padded(TEXTS, CONTEXT, padding)), short, atol=1e-6, rtol=1e-5)
    for row, text in enumerate(TEXTS):
        assert_close(tower(torch.tensor([text])), short[row : row + 1], atol=1e-6, rtol=1e-5)


def test_the_papers_text_tower_needs_no_mask():
    tower = text_tower()
    ids, mask = padded(TEXTS, CONTEXT, 0)
    assert_close(tower(ids), tower(ids, mask))


def test_the_first_end_token_is_read_though_larger_ids_and_later_ends_follow():
    ids = torch.tensor([[START, 11, END, END, 11], [START, 2, 3, 4, END]])
    assert first_end(ids, END).tolist() == [2, 4]


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ShapeError, match="10 tokens; the model's context is 9"):
        text_tower()(torch.full((1, 10), END))


def test_word_order_matters_to_the_transformer_and_not_to_the_bag():
    torch.manual_seed(0)
    bag = BagOfWords(VOCAB, 8, embed_dim=6, end_id=END)
    there, back = torch.tensor([[START, 3, 4, 5, END]]), torch.tensor([[START, 5, 4, 3, END]])
    assert_close(bag(there), bag(back))
    assert not torch.allclose(text_tower()(there), text_tower()(back))


def test_the_bag_holds_the_words_without_start_end_and_padding():
    torch.manual_seed(0)
    bag = BagOfWords(VOCAB, 8, embed_dim=6, end_id=END)
    ids, mask = padded(TEXTS, 6, 0)
    mean = bag.token_embedding.weight[torch.tensor([3, 4, 11])].mean(dim=0)
    assert_close(bag.features(ids, mask)[0], bag.ln_final(mean))
    assert_close(bag.features(ids)[0], bag.ln_final(mean))
    assert_close(bag.features(ids, mask)[1], bag.ln_final.bias)  # a text without words is finite


def test_the_mean_over_nothing_is_zero():
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("tower", [vit, resnet, convnet])
def test_recomputing_changes_neither_gradients_nor_running_statistics(tower):
    sides = {vit: 24, resnet: 64, convnet: 32}
    images = torch.randn(2, 3, sides[tower], sides[tower], generator=torch.Generator().manual_seed(1))
    results = []
    for recompute in (False, True):
        model = tower().train()
        model(images, recompute=recompute).square().sum().backward()
        results.append((dict(model.named_buffers()), [parameter.grad for parameter in model.parameters()]))
    (buffers, gradients), (other_buffers, other_gradients) = results
    for name, buffer in buffers.items():
        assert torch.equal(buffer, other_buffers[name]), name
    for plain, recomputed in zip(gradients, other_gradients, strict=True):
        assert_close(plain, recomputed, atol=0, rtol=0)


def test_no_convolution_after_the_stem_has_a_stride():
    strides = {name: module.stride for name, module in resnet().named_modules() if isinstance(module, nn.Conv2d)}
    assert [name for name, stride in strides.items() if stride != (1, 1)] == ["conv1"]


def test_the_resnet_map_is_a_32nd_of_the_picture_with_32_times_the_width():
    assert resnet().eval().feature_map(torch.zeros(2, 3, 64, 96)).shape == (2, 8 * 32, 2, 3)


def test_a_new_residual_block_adds_nothing():
    torch.manual_seed(0)
    block = Bottleneck(16, 4, stride=1)
    feature_map = torch.rand(2, 16, 3, 5)
    assert_close(block(feature_map), feature_map)


def test_the_convnet_keeps_where_things_are():
    model = convnet().eval()
    images = torch.zeros(2, 3, 32, 32)
    images[0, :, :8, :8] = 1
    images[1, :, 24:, 24:] = 1
    left, right = model.features(images)
    assert left.shape == (16 * 4 * 4,)
    assert not torch.allclose(left, right)


def vit_that_mixes_nothing() -> VisionTransformer:
    """Patches pass through its blocks unchanged."""
    model = vit()
    for block in model.transformer.resblocks:
        for layer in (block.attn.out_proj, block.mlp.c_proj):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


@pytest.mark.parametrize(
    ("tower", "side", "shape"), [(vit_that_mixes_nothing, 24, (16, 3, 3)), (resnet, 64, (256, 2, 2))]
)
def test_a_map_changes_where_the_picture_does(tower, side, shape):
    model = tower().eval()
    images = torch.zeros(2, 3, side, side)
    images[1, :, -3:, :3] = 5  # a corner, below and to the left
    before, after = model.feature_map(images)
    assert before.shape == shape
    change = (after - before).abs().sum(dim=0)  # (h, w)
    assert change.argmax() == change.numel() - shape[2]  # the last row's first place
    if tower is vit_that_mixes_nothing:
        assert change.count_nonzero() == 1


def test_the_vits_map_and_its_class_token_come_of_one_pass():
    model = vit().eval()
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    found = []
    model.ln_post.register_forward_hook(lambda module, inputs, output: found.append(output))
    feature_map, class_token = model.feature_map(images), model.features(images)
    assert_close(found[0][:, 0], class_token, atol=1e-5, rtol=1e-5)
    assert_close(found[0][:, 1 + 3 * 2 + 1], feature_map[:, :, 2, 1])


def test_the_convnets_features_are_its_map():
    model = convnet().eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.feature_map(images).flatten(1), model.features(images))


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(ShapeError, match="25 pixels cannot be cut into patches of 8"):
        VisionTransformer(25, 8, 16, 2, 4, mlp_width=40, activation="gelu", embed_dim=6)
    with pytest.raises(ShapeError, match="multiple of 32 and has four stages; found size 48 and 4"):
        ModifiedResNet(48, 8, (1, 1, 1, 1), heads=4, embed_dim=6)
    with pytest.raises(ShapeError, match="multiple of 8; found 36"):
        ConvNet(36, 4, (1, 1, 1), embed_dim=6)


def test_any_timm_backbone_is_a_tower():
    pytest.importorskip("timm")
    tower = TimmTower("test_vit", 64, embed_dim=6)
    images = torch.zeros(2, 3, 64, 64)
    assert tower(images, recompute=True).shape == (2, 6)
    assert tower.features(images).shape[1] == tower.trunk.num_features
    assert tower.feature_map(images).shape == (2, tower.trunk.num_features, 4, 4)
    assert TimmTower("test_convnext", 64, embed_dim=6).feature_map(images).shape[2:] == (2, 2)
    with pytest.raises(UsageError, match="did you mean 'resnet50'"):
        TimmTower("resnet_50", 64, embed_dim=6)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[timm\]'"):
        TimmTower("resnet18", 64, embed_dim=6)
