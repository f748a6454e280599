"""UNITER against what the released code gave: weights, embeddings, states, heads of pre-training and gradients.

Tolerances are those of the set's README: 1e-4 absolute for states and logits, 2e-5 relative for losses, 1e-3 for norms.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from diptych.nn.packing import Packing
from diptych.train.optim import make_optimizer
from diptych.train.run import OptimSettings
from diptych.uniter.layouts import released
from diptych.uniter.weights import read_weights, write_weights

LOSSES = ("mlm", "mrfr", "mrc", "mrckl", "itm")


@pytest.fixture(scope="module")
def release(golden):
    return golden("uniter")


@pytest.fixture(scope="module")
def stored(golden, device):
    """The same on each device that is to compute it."""
    return golden("uniter", device)


@pytest.fixture(scope="module")
def file(release, tmp_path_factory):
    """The set's weights as the release has them: a file, and its config beside it."""
    file = tmp_path_factory.mktemp("release") / "uniter-set.pt"
    torch.save({name: release[name] for name, _ in release.facts["state_dict_keys"]}, file)
    shutil.copy(release.folder / "model_config.json", file.with_suffix(".json"))
    return file


@pytest.fixture(scope="module")
def published(file):
    return read_weights(file)


@pytest.fixture(scope="module")
def model(published, device, released_uniter):
    return released_uniter.model_of(published).to(device)


def packed_as_released(stored, name, states):
    """(B, T + R, D) as the release packs it, and where that is real."""
    index = stored[f"{name}/gather_index"]
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[2])), stored[f"{name}/attn_masks"].bool()


def test_every_tensor_has_its_place_and_is_written_back(release, published, tmp_path):
    names = {name: tuple(shape) for name, shape in release.facts["state_dict_keys"]}
    assert published.layout == "uniter" and not published.ignored
    assert published.config.heads == release.facts["config"]["num_attention_heads"]
    write_weights(tmp_path, published.config, published.state, "uniter")
    written = load_file(tmp_path / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == names
    for name, tensor in written.items():
        expected = release[name].clone()
        if name == released.MASK:
            expected[0] = 0  # the release writes it so at every masked forward pass
        assert torch.equal(tensor, expected), name
    again = read_weights(tmp_path)
    assert again.config == published.config
    assert again.state.keys() == published.state.keys()
    assert all(torch.equal(tensor, published.state[name]) for name, tensor in again.state.items())


def test_the_number_of_parameters(release, published, released_uniter):
    ours = sum(parameter.numel() for parameter in released_uniter.model_of(published).parameters())
    theirs = sum(
        release[name].numel() for name, _ in release.facts["state_dict_keys"] if name not in release.facts["tied"]
    )
    assert ours == theirs - release.facts["img_dim"], "the row of the mask embedding that masks nothing"


@torch.inference_mode()
def test_embeddings(stored, model, released_uniter):
    batch = released_uniter.batch_of(stored, "mlm")
    parts = model.embed(batch)
    released_uniter.close(parts["text"].hidden[batch.text.mask], stored["enc/txt_emb"][batch.text.mask])
    released_uniter.close(parts["regions"].hidden[batch.regions.mask], stored["enc/img_emb"][batch.regions.mask])
    states, real = packed_as_released(stored, "mlm", torch.cat([part.hidden for part in parts.values()], dim=1))
    released_uniter.close(states[real], stored["enc/packed_emb"][real])


@torch.inference_mode()
def test_masked_regions_are_the_mask_vector_whatever_their_features(stored, model, released_uniter):
    batch = released_uniter.batch_of(stored, "mrfr")
    found = model.embed_regions(batch.regions).hidden
    released_uniter.close(found[batch.regions.mask], stored["enc/img_emb_masked"][batch.regions.mask])
    batch.regions.features[batch.regions.hidden] += 7
    assert torch.equal(model.embed_regions(batch.regions).hidden, found)


@torch.inference_mode()
def test_states_of_every_layer(stored, model, released_uniter):
    parts = model.embed(released_uniter.batch_of(stored, "mlm"))
    mask = torch.cat([part.mask for part in parts.values()], dim=1)
    packing = Packing.of(mask)
    hidden = packing.pack(torch.cat([part.hidden for part in parts.values()], dim=1))
    for number, block in enumerate(model.encoder.blocks, start=1):
        hidden = block(hidden, packing)
        states, real = packed_as_released(stored, "mlm", packing.unpack(hidden))
        released_uniter.close(states[real], stored[f"enc/hidden_{number}"][real], f"layer {number}")
    released_uniter.close(model.fuse(parts).pooled, stored["enc/pooled"])


@torch.inference_mode()
def test_words_alone_and_regions_alone(stored, model, released_uniter):
    parts = model.embed(released_uniter.batch_of(stored, "mlm"))
    for part, name in (("text", "enc/text_only"), ("regions", "enc/image_only")):
        alone = model.fuse({part: parts[part]})
        real = parts[part].mask
        released_uniter.close(getattr(alone, part)[real], stored[name][real], name)
        assert alone.lengths == {part: real.shape[1]}


@torch.inference_mode()
def test_states_of_words_and_regions_apart(stored, model, released_uniter):
    fused = model(released_uniter.batch_of(stored, "itm"))
    released_uniter.close(fused.text, stored["ot/txt_states"])
    released_uniter.close(fused.regions[fused.region_mask], stored["ot/img_states"][fused.region_mask])
    assert torch.equal(fused.text_mask, stored["itm/ot_inputs/txt_pad"] == 0)
    assert torch.equal(fused.region_mask, stored["itm/ot_inputs/img_pad"] == 0)


def predictions(released_uniter, stored, model, task):
    """What the head of a pre-training task says of what is asked."""
    name = "mrc" if task == "mrckl" else task
    fused = model(released_uniter.batch_of(stored, name))
    match task:
        case "mlm":
            return model.heads["mlm"](fused.text[stored["mlm/txt_labels"] != -1], fused.word_table)
        case "mrfr":
            return model.heads["mrfr"](fused.regions[stored["mrfr/img_masks"].bool()], fused.feature_table)
        case "mrc" | "mrckl":
            return model.heads["mrc"](fused.regions[stored["mrc/img_masks"].bool()])
        case "itm":
            return model.heads["itm"](fused.pooled)


@torch.inference_mode()
def test_heads_of_pretraining(stored, model, released_uniter):
    for task, expected in (("mlm", "mlm/logits"), ("mrfr", "mrfr/pred"), ("mrc", "mrc/logits"), ("itm", "itm/logits")):
        released_uniter.close(predictions(released_uniter, stored, model, task), stored[expected], task)


def loss_of(released_uniter, stored, model, task):
    """As the released loop averages it."""
    found = predictions(released_uniter, stored, model, task)
    match task:
        case "mlm":
            labels = stored["mlm/txt_labels"]
            return F.cross_entropy(found, labels[labels != -1])
        case "mrfr":
            return F.mse_loss(found, stored["mrfr/feat_targets"])
        case "mrc":
            return F.cross_entropy(found, stored["mrc/hard_targets"])
        case "mrckl":
            return F.kl_div(found.log_softmax(dim=-1), stored["mrc/label_targets"], reduction="none").mean()
        case "itm":
            return F.cross_entropy(found, stored["itm/targets"])


@pytest.mark.parametrize("task", LOSSES)
def test_gradients_of_every_parameter(stored, model, task, released_uniter):
    loss = loss_of(released_uniter, stored, model, task)
    assert loss.item() == pytest.approx(stored.facts["losses"][task], rel=2e-5)
    gradients = released_uniter.released_gradients(model, loss)
    norms = {
        name: norm for name, norm in stored.facts["grad_norms"][task].items() if norm and not name.endswith("key.bias")
    }
    assert norms.keys() <= gradients.keys()
    for name, norm in norms.items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), name
    silent = [name for name, norm in stored.facts["grad_norms"][task].items() if not norm]
    assert not any(gradients[name].any() for name in silent if name in gradients)
    whole = torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
    assert whole == pytest.approx(stored.facts["grad_global"][task], rel=1e-3)
    expected = stored.names(f"grad/{task}/")
    assert expected
    for name in expected:
        theirs = stored[f"grad/{task}/{name}"]
        released_uniter.close(gradients[name], theirs[1:] if name == released.MASK else theirs, name)


def test_what_the_released_training_decays(release, published, released_uniter):
    model, settings = released_uniter.model_of(published), OptimSettings(weight_decay=0.01, arithmetic="released")
    groups = make_optimizer(model, settings, torch.device("cpu")).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group, expected in zip(groups, ("decay", "no_decay"), strict=True):
        ours = {names[id(parameter)]: parameter for parameter in group["params"]}
        theirs = released.key_map(ours).to_theirs(ours).keys()
        assert theirs == set(release.facts["optimizer"][expected]) - release.facts["tied"].keys()
