"""Against the installed open_clip with random weights: outputs, loss and gradients within 1e-5 in float32.

Gradients within 1e-5 of the largest entry of their tensor where that is above 1.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diptych.clip.model import CLIP
from diptych.clip.weights import read_weights, resize_positions, write_weights
from diptych.data.batch import Batch, ImagePart, TextPart
from diptych.objectives.contrastive import Contrastive

open_clip = pytest.importorskip("open_clip")
from open_clip.loss import ClipLoss  # noqa: E402
from open_clip.model import resize_pos_embed  # noqa: E402

TOLERANCE = 1e-5
TEXT = {"context_length": 9, "vocab_size": 50, "width": 24, "heads": 3, "layers": 2}
VIT = {"image_size": 24, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 3.0}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "head_width": 64}
PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}


def model_cfg(vision: dict, *, quick_gelu: bool, custom_text: bool = False) -> dict:
    config = {"embed_dim": 20, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}
    return {**config, "custom_text": True} if custom_text else config


def their_model(config: dict, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = dict(config)
    custom = config.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    for module in model.modules():  # away from zeros and ones, so that every parameter takes part
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def write_folder(model: nn.Module, config: dict, folder, *, name: str = "open_clip_model.safetensors") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESSING}), encoding="utf-8"
    )
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / name)
    else:
        torch.save(model.state_dict(), folder / name)


def ours_from(folder) -> CLIP:
    published = read_weights(folder)
    model = CLIP(published.config)
    model.load_state_dict(published.state)
    return model


def batch_of(ids, images) -> Batch:
    mask = torch.arange(ids.shape[1]) <= ids.argmax(dim=1, keepdim=True)
    return Batch(
        keys=tuple(map(str, range(len(ids)))),
        group=torch.arange(len(ids)),
        text=TextPart(ids=ids, mask=mask),
        image=ImagePart(pixels=images),
    )


CONFIGS = {
    "vit-quick_gelu": model_cfg(VIT, quick_gelu=True),
    "vit-gelu": model_cfg(VIT, quick_gelu=False),
    "resnet-quick_gelu": model_cfg(RESNET, quick_gelu=True),
    "resnet-gelu": model_cfg(RESNET, quick_gelu=False),
    "vit-custom_text": model_cfg(VIT, quick_gelu=True, custom_text=True),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("training", [False, True])
def test_import_gives_equal_outputs_loss_and_gradients(config, training, padded_texts, tmp_path):
    theirs = their_model(config)
    write_folder(theirs, config, tmp_path)
    ours = ours_from(tmp_path)
    theirs.train(training)
    ours.train(training)
    size = config["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    ids = padded_texts(TEXT["vocab_size"], TEXT["context_length"])

    image, text, scale = theirs(images, ids)
    their_loss = ClipLoss()(image, text, scale)
    their_loss.backward()
    dual = ours(batch_of(ids, images))
    our_loss = Contrastive().loss(lambda _: dual, batch_of(ids, images), {}).divided({"contrastive": 3})
    our_loss.backward()

    normal = nn.functional.normalize
    assert_close(normal(dual.image, dim=-1), image, atol=TOLERANCE, rtol=TOLERANCE)
    assert_close(normal(dual.text, dim=-1), text, atol=TOLERANCE, rtol=TOLERANCE)
    assert_close(dual.scale, scale, atol=0, rtol=1e-6)
    assert_close(our_loss, their_loss, atol=TOLERANCE, rtol=TOLERANCE)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    custom = config.get("custom_text", False)
    for name, parameter in ours.named_parameters():
        theirs_name = name if custom else name.removeprefix("text.")
        expected = gradients[theirs_name]
        # Of the largest entry: with batch norm gradients reach 20, and float32 itself is 8e-5 from float64 there.
        tolerance = TOLERANCE * max(1.0, float(expected.abs().max()))
        assert_close(parameter.grad, expected, atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", ["vit-quick_gelu", "resnet-gelu"])
def test_open_clip_loads_what_we_export(name, padded_texts, tmp_path):
    config = CONFIGS[name]
    write_folder(their_model(config, seed=3), config, tmp_path / "theirs")
    ours = ours_from(tmp_path / "theirs").eval()
    write_weights(tmp_path / "ours", ours.config, ours.state_dict(), "open_clip")

    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'ours'}")
    loaded.eval()
    size = ours.config.image_size
    images = torch.randn(3, 3, size, size)
    ids = padded_texts(TEXT["vocab_size"], TEXT["context_length"])
    with torch.inference_mode():
        assert_close(loaded.encode_image(images), ours.encode_image(images), atol=TOLERANCE, rtol=TOLERANCE)
        assert_close(loaded.encode_text(ids), ours.encode_text(ids), atol=TOLERANCE, rtol=TOLERANCE)
    assert transform.transforms[-1].mean == PREPROCESSING["mean"]
    written = json.loads((tmp_path / "ours" / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert written == PREPROCESSING
    assert read_weights(tmp_path / "ours").config == ours.config


def test_an_end_token_that_is_not_the_largest_survives_the_export(tmp_path):
    config = CONFIGS["vit-gelu"]
    write_folder(their_model(config), config, tmp_path / "theirs")
    published = read_weights(tmp_path / "theirs")
    ours = CLIP(type(published.config)(**{**vars(published.config), "end_id": 3})).eval()
    write_weights(tmp_path / "ours", ours.config, ours.state_dict(), "open_clip")
    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'ours'}")
    ids = torch.tensor([[2, 30, 40, 3, 0, 0, 0, 0, 0], [2, 45, 3, 0, 0, 0, 0, 0, 0]])
    with torch.inference_mode():
        assert_close(loaded.eval().encode_text(ids), ours.encode_text(ids), atol=TOLERANCE, rtol=TOLERANCE)
    assert read_weights(tmp_path / "ours").config.end_id == 3


def test_a_training_checkpoint_is_read_with_its_prefixes(tmp_path):
    config = CONFIGS["vit-quick_gelu"]
    theirs = their_model(config)
    write_folder(theirs, config, tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    state = {f"module._orig_mod.{name}": tensor for name, tensor in theirs.state_dict().items()}
    optimizer = torch.optim.AdamW(theirs.parameters()).state_dict()
    file = tmp_path / "epoch_7.pt"
    torch.save({"epoch": 7, "name": "run", "state_dict": state, "optimizer": optimizer}, file)
    published = read_weights(file)
    assert published.layout == "open_clip"
    assert_close(published.state["visual.proj"], theirs.visual.proj.detach())


@pytest.mark.parametrize(("vision", "side"), [(VIT, 40), (RESNET, 96)], ids=["vit", "resnet"])
def test_position_embeddings_are_resized_as_open_clip_does(vision, side, tmp_path):
    config = model_cfg(vision, quick_gelu=True)
    write_folder(their_model(config), config, tmp_path)
    published = read_weights(tmp_path)
    state, larger = resize_positions(published.state, published.config, side)
    CLIP(larger).load_state_dict(state)
    if "patch_size" not in vision:
        return  # open_clip resizes those of a vit only
    theirs = their_model(model_cfg({**vision, "image_size": side}, quick_gelu=True))
    resized = {name: tensor.clone() for name, tensor in published.state.items()}
    resize_pos_embed(resized, theirs)
    name = "visual.positional_embedding"
    assert_close(state[name], resized[name], atol=1e-6, rtol=1e-6)
    assert_close(state[name][0], published.state[name][0], atol=0, rtol=0)


def test_a_timm_backbone_is_imported_and_exported(tmp_path):
    pytest.importorskip("timm")
    vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    config = model_cfg(vision, quick_gelu=False, custom_text=True)
    theirs = their_model(config).eval()
    write_folder(theirs, config, tmp_path / "theirs")
    ours = ours_from(tmp_path / "theirs").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert_close(ours.encode_image(images), theirs.encode_image(images), atol=TOLERANCE, rtol=TOLERANCE)
    write_weights(tmp_path / "ours", ours.config, ours.state_dict(), "open_clip")
    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'ours'}")
    with torch.inference_mode():
        assert_close(loaded.eval().encode_image(images), ours.encode_image(images), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu", "ViT-B-32"])
def test_full_size_models_agree(name, padded_texts, tmp_path):
    config = open_clip.get_model_config(name)
    config.setdefault("quick_gelu", False)
    theirs = their_model(config).eval()
    write_folder(theirs, config, tmp_path)
    ours = ours_from(tmp_path).eval()
    images = torch.randn(2, 3, 224, 224)
    ids = padded_texts(49408, 77)
    with torch.inference_mode():
        normal = nn.functional.normalize
        image, text, _ = theirs(images, ids[:2])
        assert_close(normal(ours.encode_image(images), dim=-1), image, atol=TOLERANCE, rtol=TOLERANCE)
        assert_close(normal(ours.encode_text(ids[:2, :50]), dim=-1)[1], text[1], atol=TOLERANCE, rtol=TOLERANCE)
