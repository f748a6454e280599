"""The network by facts that one could argue from the paper; its numbers are held against the release in parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diptych.data.batch import Batch, RegionPart, TextPart, reading
from diptych.errors import ShapeError, UsageError
from diptych.nn.unfilled import unfilled
from diptych.uniter.heads import HeadSizes, new_heads
from diptych.uniter.model import UNITER, UniterConfig

CONFIG = UniterConfig(
    width=8, depth=2, heads=2, mlp_width=12, vocab_size=30, positions=9, context=7, feature_width=5, num_classes=3
)
LARGE = UniterConfig(width=1024, depth=24, heads=16, mlp_width=4096)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = UNITER(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch(texts=(4, 6, 3), regions=(3, 1, 2), **changes):
    generator = torch.Generator().manual_seed(2)
    rows, longest, most = len(texts), max(texts), max(regions)
    part = RegionPart(
        features=torch.randn(rows, most, 5, generator=generator),
        boxes=torch.rand(rows, most, 4, generator=generator),
        box_features=torch.rand(rows, most, 7, generator=generator),
        mask=torch.arange(most) < torch.tensor(regions)[:, None],
    )
    return Batch(
        keys=tuple(map(str, range(rows))),
        group=torch.arange(rows),
        text=TextPart(
            ids=torch.randint(1, 30, (rows, longest), generator=generator),
            mask=torch.arange(longest) < torch.tensor(texts)[:, None],
        ),
        regions=replace(part, **changes),
    )


@pytest.mark.parametrize(("config", "expected"), [(UniterConfig(), 112_938_887), (LARGE, 340_524_935)])
def test_the_released_models_have_as_many_parameters(config, expected):
    def whole(config):
        model = UNITER(config)
        sizes = {"mlm": HeadSizes(), "mrfr": HeadSizes(), "mrc": HeadSizes(outputs=1601), "itm": HeadSizes(outputs=2)}
        model.heads = new_heads(sizes, config)
        return model

    ours = sum(one.numel() for one in unfilled(whole, config).parameters())
    assert ours == expected - config.feature_width, "less a row of the mask embedding, which masks nothing"


def test_words_see_regions_and_regions_words(model):
    before, changed = model(batch()), batch()
    changed.regions.features[0, 0] += 1
    changed.text.ids[1, 2] = 29
    after = model(changed)
    assert not torch.allclose(before.text[0, :4], after.text[0, :4])
    assert not torch.allclose(before.regions[1, :1], after.regions[1, :1])
    assert torch.equal(before.hidden[2], after.hidden[2])


def test_what_is_padding_is_never_read(model):
    rows = batch()
    before = model(rows)
    rows.text.ids[~rows.text.mask] = 7
    rows.regions.features[~rows.regions.mask] = 7
    rows.regions.box_features[~rows.regions.mask] = 7
    after = model(rows)
    assert torch.equal(before.hidden, after.hidden)
    assert not before.hidden[~before.mask].any()


def test_each_row_is_what_it_is_alone(model):
    rows = batch()
    together = model(rows)
    for row, (words, regions) in enumerate(zip((4, 6, 3), (3, 1, 2), strict=True)):
        alone = model(rows.rows(row, row + 1))
        assert_close(alone.text[0, :words], together.text[row, :words])
        assert_close(alone.regions[0, :regions], together.regions[row, :regions])
        assert_close(alone.pooled[0], together.pooled[row])


def test_order_of_regions_is_not_read(model):
    rows = batch(texts=(4, 6), regions=(3, 3))
    turned = replace(
        rows.regions, features=rows.regions.features.flip(1), box_features=rows.regions.box_features.flip(1)
    )
    before, after = model(rows), model(replace(rows, regions=turned))
    assert_close(before.text, after.text)
    assert_close(before.regions, after.regions.flip(1))


def test_regions_are_of_type_1_and_of_those_that_a_batch_says(model):
    rows = batch()
    plain = model.embed_regions(rows.regions).hidden
    ones = torch.ones(3, 3, dtype=torch.int64)
    assert torch.equal(model.embed_regions(replace(rows.regions, types=ones)).hidden, plain)
    assert not torch.allclose(model.embed_regions(replace(rows.regions, types=0 * ones)).hidden, plain)


def test_hidden_regions_teach_the_mask_vector_alone(model):
    hidden = torch.tensor([[True, False, False], [True, False, False], [False, True, False]])
    rows = batch(hidden=hidden)
    rows.regions.features.requires_grad_()
    model.embed_regions(rows.regions).hidden.pow(3).sum().backward()
    gradient = rows.regions.features.grad
    assert not gradient[hidden].any() and gradient[rows.regions.mask & ~hidden].any(dim=1).all()
    assert model.regions.mask_vector.grad.any()


def test_features_may_be_halves(model):
    rows = batch()
    halves = replace(rows.regions, features=rows.regions.features.half())
    as_float = replace(rows.regions, features=rows.regions.features.half().float())
    assert torch.equal(model.embed_regions(halves).hidden, model.embed_regions(as_float).hidden)


def test_parts_that_are_kept_fuse_as_they_did(model):
    rows = batch()
    parts = model.embed(rows)
    assert torch.equal(model.fuse(parts).hidden, model(rows).hidden)
    other = {"text": parts["text"], "regions": model.embed_regions(batch(regions=(2, 2, 1)).regions)}
    assert model.fuse(other).lengths == {"text": 6, "regions": 2}


def test_the_last_layer_is_of_the_positions_that_are_read(model):
    whole, given = model(batch()), batch()
    words = given.text.mask & (given.text.ids % 2 == 0)
    some = model(reading(given, text=words))
    assert_close(some.text[words], whole.text[words], atol=1e-6, rtol=1e-5)
    assert not some.text[~words].any() and not some.regions.any()
    some = model(reading(given, regions=given.regions.mask))
    assert_close(some.regions, whole.regions, atol=1e-6, rtol=1e-5)
    assert not some.text.any()


def test_inputs_that_do_not_fit_are_told():
    model = UNITER(CONFIG)
    with pytest.raises(ShapeError, match="region features of 4 numbers; this model reads 5"):
        model(batch(features=torch.zeros(3, 3, 4)))
    with pytest.raises(ShapeError, match="texts of 10 tokens; the table of positions has 9"):
        model(batch(texts=(10, 2, 3)))
    with pytest.raises(UsageError, match=r"model\.context is 10 and the table of positions has 9 rows"):
        replace(CONFIG, context=10)


def test_weights_are_drawn_as_in_the_release():
    model = UNITER(replace(CONFIG, width=64, mlp_width=128, feature_width=96, vocab_size=90))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and parameter.numel() > 1000:
            assert 0.018 < parameter.std().item() < 0.022, name
        elif "norm" in name or "ln_" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name
        elif parameter.dim() == 1:
            assert not parameter.any(), name
