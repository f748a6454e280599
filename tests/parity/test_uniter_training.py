"""Optimizer steps on the mixture of tasks, under released arithmetic, against those of the released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diptych.data.batch import IGNORE, Batch, RegionPart, TextPart
from diptych.objectives.masked_regions import MaskedRegionClasses, MaskedRegionFeatures
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.train.optim import clip_gradients, make_optimizer, set_learning_rate
from diptych.train.run import OptimSettings
from diptych.train.schedule import learning_rate
from diptych.uniter.heads import new_heads, sizes_in
from diptych.uniter.layouts import released
from diptych.uniter.model import UNITER
from diptych.uniter.weights import read_weights

OBJECTIVES = {
    "mlm": MaskedWords(),
    "mrfr": MaskedRegionFeatures(),
    "mrckl": MaskedRegionClasses(mean_over_classes=True),
    "mrc": MaskedRegionClasses(divergence=False),
    "itm": Matching(alignment=0.1, push_apart=True),
}
"""As released; in the set, `itm` is the matching with 0.1 of the alignment, `itm_ot` among the losses."""
LOSSES = {"mlm": "mlm", "mrfr": "mrfr", "mrckl": "mrckl", "mrc": "mrc", "itm": "itm_ot"}
BATCHES = {"mrckl": "mrc"}


@pytest.fixture(scope="module")
def stored(golden, device):
    return golden("uniter", device)


@pytest.fixture
def model(stored, tmp_path):
    file = tmp_path / "uniter-set.pt"
    torch.save({name: stored[name] for name, _ in stored.facts["state_dict_keys"]}, file)
    file.with_suffix(".json").write_bytes((stored.folder / "model_config.json").read_bytes())
    published = read_weights(file)
    model = UNITER(published.config)
    model.heads = new_heads(sizes_in(published.state), published.config)
    model.load_state_dict(published.state)
    return model.to(stored.device)


def stored_batch(stored, task):
    """A batch of the set and its targets, as our objectives would have drawn them."""
    name = BATCHES.get(task, task)
    part = {key: stored[f"{name}/{key}"] for key in stored.names(f"{name}/") if f"{name}/{key}" in inputs_of(stored)}
    ids, features, numbers = part["input_ids"], part["img_feat"].clone(), part["img_pos_feat"]
    num_regions = part["attn_masks"].sum(dim=1) - (ids != 0).sum(dim=1)
    hidden = part["img_masks"].bool() if "img_masks" in part else None
    if task == "mrfr":
        features[hidden] = part["feat_targets"]
    batch = Batch(
        keys=("",) * len(ids),
        group=torch.arange(len(ids)),
        text=TextPart(ids=ids, mask=ids != 0),
        regions=RegionPart(
            features=features,
            boxes=numbers[..., :4],
            box_features=numbers,
            mask=torch.arange(features.shape[1], device=stored.device) < num_regions[:, None],
            hidden=hidden,
        ),
    )
    match name:
        case "mlm":
            targets = {"mlm": part["txt_labels"].masked_fill(part["txt_labels"] == -1, IGNORE)}
        case "mrc":
            rows = part["label_targets"].split(hidden.sum(dim=1).tolist())
            targets = {"mrc": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE)}
        case "itm":
            targets = {"itm": part["targets"]}
        case _:
            targets = {}
    return batch, targets


def inputs_of(stored):
    return {name for name, file in stored.files.items() if file.name == "inputs.safetensors"}


def loss_of(stored, model, task):
    batch, targets = stored_batch(stored, task)
    loss = OBJECTIVES[task].loss(model, batch, targets)
    return loss.divided({name: term.count for name, term in loss.terms.items()})


def released_names(tensors):
    return released.key_map(tensors).to_theirs(tensors)


@pytest.mark.parametrize("task", LOSSES)
def test_losses_and_gradients_of_every_objective(stored, model, task):
    loss = loss_of(stored, model, task)
    assert loss.item() == pytest.approx(stored.facts["losses"][LOSSES[task]], rel=2e-5)
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    gradients = released_names(found)
    names = stored.names(f"grad/{LOSSES[task]}/")
    assert names
    for name in names:
        expected = stored[f"grad/{LOSSES[task]}/{name}"]
        expected = expected[1:] if name == released.MASK else expected
        assert_close(gradients[name], expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_the_trajectory(stored, model):
    facts, hyper = stored.facts["trajectory"], stored.facts["trajectory"]["hyper"]
    assert hyper["optim"] == "adamw"
    settings = OptimSettings(
        lr=hyper["learning_rate"],
        betas=tuple(hyper["betas"]),
        eps=1e-6,
        weight_decay=hyper["weight_decay"],
        warmup_steps=hyper["warmup_steps"],
        schedule="linear",
        clip_norm=hyper["grad_norm"],
        arithmetic="released",
    )
    optimizer = make_optimizer(model.train(), settings, stored.device)
    for step, task in enumerate(facts["tasks"]):
        rate = learning_rate(settings, step, hyper["num_train_steps"])
        assert rate == pytest.approx(facts["lr"][step])
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(stored, model, task)
        loss.backward()
        norm = clip_gradients(model.parameters(), settings.clip_norm)
        optimizer.step()
        np.testing.assert_allclose(loss.item(), facts["loss_before_step"][step], rtol=1e-4, err_msg=f"step {step}")
        np.testing.assert_allclose(norm.item(), facts["grad_norm"][step], rtol=1e-3, err_msg=f"step {step}")
    written = released_names(model.state_dict())
    for name in stored.names("after10/"):
        expected = stored[f"after10/{name}"]
        expected = expected[1:] if name == released.MASK else expected
        assert_close(written[name], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
