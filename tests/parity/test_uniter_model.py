"""UNITER against what the released code gave: weights, embeddings, states, heads and gradients.

Tolerances are those of the set's README: 1e-4 absolute for states and logits, 2e-5 relative for losses, 1e-3 for norms.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.data.batch import Batch, RegionPart, TextPart
from diptych.nn.packing import Packing
from diptych.objectives.answering import Questions, Statements
from diptych.objectives.choosing import Choosing
from diptych.objectives.ranking import HardRanking, Ranking
from diptych.objectives.referring import Referring
from diptych.objectives.two_pictures import TwoPictures
from diptych.train.optim import make_optimizer
from diptych.train.run import OptimSettings
from diptych.uniter.heads import new_heads, sizes_in
from diptych.uniter.layouts import released
from diptych.uniter.model import UNITER
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


def model_of(published):
    model = UNITER(published.config)
    model.heads = new_heads(sizes_in(published.state), published.config)
    model.load_state_dict(published.state)
    return model.eval()


@pytest.fixture(scope="module")
def published(file):
    return read_weights(file)


@pytest.fixture(scope="module")
def model(published, device):
    return model_of(published).to(device)


def batch_of(stored, name):
    """A stored batch, padded as the release padded it."""
    ids, features, boxes = (stored[f"{name}/{part}"] for part in ("input_ids", "img_feat", "img_pos_feat"))
    rows = max(len(ids), len(features))
    ids = ids.expand(rows, -1)
    regions = stored[f"{name}/attn_masks"].sum(dim=1) - (ids != 0).sum(dim=1)
    found = {
        key: stored[f"{name}/{key}"]
        for key in ("txt_type_ids", "img_type_ids", "img_masks")
        if f"{name}/{key}" in stored.files
    }
    hidden = found.get("img_masks")
    return Batch(
        keys=("",) * rows,
        group=torch.arange(rows),
        text=TextPart(ids=ids, mask=ids != 0, types=found.get("txt_type_ids")),
        regions=RegionPart(
            features=features.expand(rows, -1, -1),
            boxes=boxes[..., :4].expand(rows, -1, -1),
            box_features=boxes.expand(rows, -1, -1),
            mask=torch.arange(features.shape[1], device=stored.device) < regions[:, None],
            types=found.get("img_type_ids"),
            hidden=None if hidden is None else hidden.bool(),
        ),
    )


def close(ours, expected, what=""):
    assert_close(ours, expected, atol=1e-4, rtol=1e-4, msg=lambda told: f"{what}: {told}")


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


def test_the_number_of_parameters(release, published):
    ours = sum(parameter.numel() for parameter in model_of(published).parameters())
    theirs = sum(
        release[name].numel() for name, _ in release.facts["state_dict_keys"] if name not in release.facts["tied"]
    )
    assert ours == theirs - release.facts["img_dim"], "the row of the mask embedding that masks nothing"


@torch.inference_mode()
def test_embeddings(stored, model):
    batch = batch_of(stored, "mlm")
    parts = model.embed(batch)
    close(parts["text"].hidden[batch.text.mask], stored["enc/txt_emb"][batch.text.mask])
    close(parts["regions"].hidden[batch.regions.mask], stored["enc/img_emb"][batch.regions.mask])
    states, real = packed_as_released(stored, "mlm", torch.cat([part.hidden for part in parts.values()], dim=1))
    close(states[real], stored["enc/packed_emb"][real])


@torch.inference_mode()
def test_masked_regions_are_the_mask_vector_whatever_their_features(stored, model):
    batch = batch_of(stored, "mrfr")
    found = model.embed_regions(batch.regions).hidden
    close(found[batch.regions.mask], stored["enc/img_emb_masked"][batch.regions.mask])
    batch.regions.features[batch.regions.hidden] += 7
    assert torch.equal(model.embed_regions(batch.regions).hidden, found)


@torch.inference_mode()
def test_states_of_every_layer(stored, model):
    parts = model.embed(batch_of(stored, "mlm"))
    mask = torch.cat([part.mask for part in parts.values()], dim=1)
    packing = Packing.of(mask)
    hidden = packing.pack(torch.cat([part.hidden for part in parts.values()], dim=1))
    for number, block in enumerate(model.encoder.blocks, start=1):
        hidden = block(hidden, packing)
        states, real = packed_as_released(stored, "mlm", packing.unpack(hidden))
        close(states[real], stored[f"enc/hidden_{number}"][real], f"layer {number}")
    close(model.fuse(parts).pooled, stored["enc/pooled"])


@torch.inference_mode()
def test_words_alone_and_regions_alone(stored, model):
    parts = model.embed(batch_of(stored, "mlm"))
    for part, name in (("text", "enc/text_only"), ("regions", "enc/image_only")):
        alone = model.fuse({part: parts[part]})
        real = parts[part].mask
        close(getattr(alone, part)[real], stored[name][real], name)
        assert alone.lengths == {part: real.shape[1]}


@torch.inference_mode()
def test_states_of_words_and_regions_apart(stored, model):
    fused = model(batch_of(stored, "itm"))
    close(fused.text, stored["ot/txt_states"])
    close(fused.regions[fused.region_mask], stored["ot/img_states"][fused.region_mask])
    assert torch.equal(fused.text_mask, stored["itm/ot_inputs/txt_pad"] == 0)
    assert torch.equal(fused.region_mask, stored["itm/ot_inputs/img_pad"] == 0)


def predictions(stored, model, task):
    """What the head of a pre-training task says of what is asked."""
    name = "mrc" if task == "mrckl" else task
    fused = model(batch_of(stored, name))
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
def test_heads_of_pretraining(stored, model):
    for task, expected in (("mlm", "mlm/logits"), ("mrfr", "mrfr/pred"), ("mrc", "mrc/logits"), ("itm", "itm/logits")):
        close(predictions(stored, model, task), stored[expected], task)


def loss_of(stored, model, task):
    """As the released loop averages it."""
    found = predictions(stored, model, task)
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
def test_gradients_of_every_parameter(stored, model, task):
    loss = loss_of(stored, model, task)
    assert loss.item() == pytest.approx(stored.facts["losses"][task], rel=2e-5)
    gradients = released_gradients(model, loss)
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
        close(gradients[name], theirs[1:] if name == released.MASK else theirs, name)


def released_gradients(model, loss):
    """Under the released names."""
    model.zero_grad()
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return released.key_map(found).to_theirs(found)


# -- fine-tuned models: the same encoder, grown tables, other heads


MODELS = {"itr": None, "itr_hn_text": None, "itr_hn_image_fixed": None, "vcr_qa": "vcr", "vcr_qar": "vcr"}
"""Models whose weights have another name than their batch, None: made of the pre-trained head."""
BATCHES = {
    "nlvr2_paired_attn": "nlvr2_paired",
    "re_mlp2": "re_mlp1",
    "re_rank_hard": "re_mlp1",
    "itr_hn_image_fixed": "itr_hn_image_official",
}
"""Of the last only the index differs by which the release packs, which nobody here reads."""


def fine_tuned(stored, tmp_path, name):
    """A released model of a task, through a file, where the stored tensors are."""
    tensors = {key: stored[key] for key, _ in stored.facts["state_dict_keys"] if key.startswith("uniter.")}
    weights = MODELS.get(name, "re_mlp1" if name == "re_rank_hard" else name)
    if weights is None:
        tensors |= {f"rank_output.{kind}": stored[f"itm_output.{kind}"][1:] for kind in ("weight", "bias")}
    else:
        grown = {"vcr": "vcr", "nlv": "nlvr2_paired"}.get(name[:3])
        for prefix in (weights, grown):
            for key in stored.names(f"{prefix}/uniter.") if prefix else ():
                value = stored[f"{prefix}/uniter.{key}"]
                if key.endswith("[extra rows]"):
                    key = key.removesuffix("[extra rows]")
                    value = torch.cat([tensors[f"uniter.{key}"], value])
                tensors[f"uniter.{key}"] = value
        heads = (
            key
            for key in stored.names(f"{weights}/")
            if not key.startswith("uniter.") and f"{weights}/{key}" in weights_of(stored)
        )
        tensors |= {key: stored[f"{weights}/{key}"] for key in heads}
    file = tmp_path / f"{name}.safetensors"
    save_file(tensors, file)
    shutil.copy(stored.folder / "model_config.json", file.with_suffix(".json"))
    published = read_weights(file)
    write_weights(tmp_path / "written", published.config, published.state, "uniter")
    written = load_file(tmp_path / "written" / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[key], value.cpu()) for key, value in tensors.items() if key != released.MASK)
    return model_of(published).to(stored.device)


def weights_of(stored):
    return {name for name, file in stored.files.items() if file.name == "downstream_weights.safetensors"}


def scores(stored, model, name):
    """What a task's head says of its stored batch."""
    batch = batch_of(stored, BATCHES.get(name, name))
    fused = model(batch)
    (head,) = model.heads.values()
    match name:
        case "nlvr2_paired":
            return head(fused.pooled.unflatten(0, (-1, 2)).flatten(1))
        case "nlvr2_paired_attn":
            left, right = (fused.hidden[side::2] for side in (0, 1))
            return head(left, right, fused.mask[0::2], fused.mask[1::2])
        case "re_mlp1" | "re_mlp2" | "re_rank_hard":
            return head(fused.regions, fused.region_mask)
        case _:
            return head(fused.pooled)


TASKS = (
    *("vqa", "ve", "vcr_qa", "vcr_qar", "nlvr2_paired", "nlvr2_triplet", "nlvr2_paired_attn"),
    *("itr", "itr_hn_text", "itr_hn_image_fixed", "re_mlp1", "re_mlp2", "re_rank_hard"),
)


@pytest.mark.parametrize("name", TASKS)
def test_heads_of_tasks(stored, tmp_path, name):
    model = fine_tuned(stored, tmp_path, name)
    with torch.inference_mode():
        found = scores(stored, model, name)
    close(found[:, 1:] if name.startswith("vcr") else found, stored[f"{name}/scores"], name)


def test_every_stored_model_is_looked_at(release):
    # What the release did wrong with texts of several lengths is not ours to repeat.
    with_scores = {name.split("/")[0] for name in release.files if name.endswith("/scores")}
    assert with_scores - {"itr_hn_image_official"} == set(TASKS)


def task_loss(stored, model, name):
    """As the released training scripts reduce it, by our objective."""
    facts = stored.facts["downstream"][name]
    batch, targets = batch_of(stored, BATCHES.get(name, name)), stored.files.get(f"{BATCHES.get(name, name)}/targets")
    targets = targets and stored[f"{BATCHES.get(name, name)}/targets"]
    match name:
        case "vqa" | "ve":
            asked, drawn = Questions() if name == "vqa" else Statements(), {name: targets}
        case "re_mlp1" | "re_mlp2":
            asked, drawn = Referring(weight=len(targets)), {"re": targets.squeeze(1)}
        case "vcr_qa" | "vcr_qar":
            batch, drawn = in_rows_of(batch, 4), {"vcr": targets.reshape(-1, 4)}
            asked = Choosing()
        case "re_rank_hard":
            meant = stored["re_mlp1/targets"].squeeze(1)
            asked, drawn = Referring(margin=0.2, weight=len(meant)), {"re": meant, "other": torch.full_like(meant, -1)}
        case "itr_hn_text" | "itr_hn_image_fixed":
            # Of one direction alone: in the other, no pair counts as false.
            num = max(len(batch.text.ids), len(batch.regions.features))
            places = torch.tensor([[0, *range(1, num), *range(1, num)]], device=stored.device)
            batch, first = in_rows_of(batch, num).chosen(places), name == "itr_hn_text"
            wrong = torch.tensor([[first] * (num - 1) + [not first] * (num - 1)], device=stored.device)
            asked, drawn = HardRanking(kept=facts["hard_size"]), {"wrong": wrong}
        case "itr":
            batch = in_rows_of(batch, stored.facts["batch_scalars"]["itr/sample_size"])
            asked, drawn = Ranking(), {"wrong": torch.ones(len(batch), 2, dtype=torch.bool, device=stored.device)}
        case _:
            form = name.removeprefix("nlvr2_")
            batch = batch if form == "triplet" else in_rows_of(batch, 2)
            asked, drawn = TwoPictures(form=form), {"nlvr2": targets}
    loss = asked.loss(model, batch, drawn)
    assert {term: found.count for term, found in loss.terms.items()} == asked.counts(batch, drawn)
    return loss.divided(asked.counts(batch, drawn))


def in_rows_of(batch, sequences):
    """Of the release's rows, so many are one of ours."""
    return replace(batch, keys=batch.keys[::sequences], group=batch.group[::sequences], sequences=sequences)


@pytest.mark.parametrize(
    "name",
    [
        *("vqa", "ve", "vcr_qa", "vcr_qar", "nlvr2_paired", "nlvr2_triplet", "nlvr2_paired_attn"),
        *("re_mlp1", "re_mlp2", "re_rank_hard", "itr", "itr_hn_text", "itr_hn_image_fixed"),
    ],
)
def test_gradients_of_tasks(stored, tmp_path, name):
    model = fine_tuned(stored, tmp_path, name)
    loss = task_loss(stored, model, name)
    facts = stored.facts["downstream"][name]
    both = 2 if "_hn_" in name else 1  # the release adds two directions, and ours counts each of them so
    assert loss.item() == pytest.approx(both * facts["loss"], rel=2e-5)
    if "grad_global" not in facts:
        return
    whole = torch.stack([gradient.norm() for gradient in released_gradients(model, loss).values()]).norm().item()
    assert whole == pytest.approx(facts["grad_global"], rel=1e-3)


def test_what_the_released_training_decays(release, published):
    model, settings = model_of(published), OptimSettings(weight_decay=0.01, arithmetic="released")
    groups = make_optimizer(model, settings, torch.device("cpu")).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group, expected in zip(groups, ("decay", "no_decay"), strict=True):
        ours = {names[id(parameter)]: parameter for parameter in group["params"]}
        theirs = released.key_map(ours).to_theirs(ours).keys()
        assert theirs == set(release.facts["optimizer"][expected]) - release.facts["tied"].keys()
