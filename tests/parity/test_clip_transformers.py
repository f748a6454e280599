"""Against the installed transformers with random weights: outputs, loss and gradients within 1e-5 in float32."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from diptych.checkpoint.keymap import KeyMap
from diptych.clip.layouts import huggingface
from diptych.clip.model import CLIP
from diptych.clip.weights import read_weights, write_weights
from diptych.data.batch import Batch, ImagePart, TextPart
from diptych.objectives.contrastive import Contrastive

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
CONTEXT, VOCAB, SIDE = 9, 50, 24


def their_model(activation: str = "quick_gelu", *, eos: int = VOCAB - 1) -> nn.Module:
    torch.manual_seed(0)
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": CONTEXT,
        "hidden_act": activation,
        "eos_token_id": eos,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
        "hidden_act": activation,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    return transformers.CLIPModel(config).eval()


def write_folder(model: nn.Module, folder) -> None:
    model.save_pretrained(folder)
    preprocessing = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")


def ours_from(folder) -> CLIP:
    published = read_weights(folder)
    model = CLIP(published.config)
    model.load_state_dict(published.state)
    return model.eval()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos", [VOCAB - 1, huggingface.OLD_EOS])
def test_import_gives_equal_outputs_loss_and_gradients(activation, eos, padded_texts, tmp_path):
    theirs = their_model(activation, eos=eos)
    write_folder(theirs, tmp_path)
    ours = ours_from(tmp_path)
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    ids = padded_texts(VOCAB, CONTEXT)
    ids = torch.where(ids == 0, VOCAB - 1, ids)  # Hugging Face's tokenizer pads with the end token

    output = theirs(input_ids=ids, pixel_values=images, return_loss=True)
    output.loss.backward()
    first_end = (ids == VOCAB - 1).int().argmax(dim=1, keepdim=True)
    batch = Batch(
        keys=("a", "b", "c"),
        group=torch.arange(3),
        text=TextPart(ids=ids, mask=torch.arange(CONTEXT) <= first_end),
        image=ImagePart(pixels=images),
    )
    dual = ours(batch)
    loss = Contrastive().loss(lambda _: dual, batch, {}).divided({"contrastive": 3})
    loss.backward()

    normal = nn.functional.normalize
    assert_close(normal(dual.image, dim=-1), output.image_embeds, atol=TOLERANCE, rtol=TOLERANCE)
    assert_close(normal(dual.text, dim=-1), output.text_embeds, atol=TOLERANCE, rtol=TOLERANCE)
    assert_close(loss, output.loss, atol=TOLERANCE, rtol=TOLERANCE)
    shapes = {name: parameter.shape for name, parameter in ours.named_parameters()}
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in huggingface.KEYS.to_ours(gradients, shapes, "gradients").items():
        ours_gradient = ours.get_parameter(name).grad
        assert_close(ours_gradient, gradient, atol=TOLERANCE, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_transformers_loads_what_we_export(padded_texts, tmp_path):
    write_folder(their_model(), tmp_path / "theirs")
    ours = ours_from(tmp_path / "theirs")
    write_weights(tmp_path / "ours", ours.config, ours.state_dict(), "huggingface")
    loaded, report = transformers.CLIPModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids, images = padded_texts(VOCAB, CONTEXT), torch.randn(3, 3, SIDE, SIDE)
    normal = nn.functional.normalize
    with torch.inference_mode():
        output = loaded(input_ids=ids, pixel_values=images)
        image, text = ours.encode_image(images), ours.encode_text(ids)
    assert_close(output.image_embeds, normal(image, dim=-1), atol=TOLERANCE, rtol=TOLERANCE)
    assert_close(output.text_embeds, normal(text, dim=-1), atol=TOLERANCE, rtol=TOLERANCE)
    assert read_weights(tmp_path / "ours").config == ours.config


def test_the_exported_processor_sees_pictures_as_we_do(tmp_path):
    import numpy as np
    from PIL import Image

    from diptych.data.transforms import evaluation_transform

    write_folder(their_model(), tmp_path / "theirs")
    ours = ours_from(tmp_path / "theirs")
    write_weights(tmp_path / "ours", ours.config, ours.state_dict(), "huggingface")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    pixels = evaluation_transform(
        picture, size=SIDE, resize_mode=ours.config.resize_mode, interpolation=ours.config.interpolation
    )
    assert_close(ours.normalised_images(pixels[None])[0], theirs.float(), atol=1e-5, rtol=1e-5)


def test_position_ids_of_old_files_are_dropped_with_a_reason(tmp_path):
    write_folder(their_model(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    published = read_weights(tmp_path)
    assert list(published.ignored) == ["text_model.embeddings.position_ids"]
    assert "old files" in published.ignored["text_model.embeddings.position_ids"]


def test_there_and_back_is_bit_for_bit(tmp_path):
    write_folder(their_model(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    back = huggingface.KEYS.to_theirs(read_weights(tmp_path).state)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name


def test_full_size_has_the_398_tensors_of_the_published_file():
    with torch.device("meta"):
        ours = CLIP(read_config_of_defaults())
    theirs = KeyMap(huggingface.KEYS.rules).to_theirs(ours.state_dict())
    assert len(theirs) == 398
    assert sum(tensor.numel() for tensor in theirs.values()) == 151_277_313


def read_config_of_defaults():
    from diptych.clip.recipes import vit_b_32

    return vit_b_32().model


def test_a_folder_that_does_not_say_how_pictures_are_made_is_refused(tmp_path):
    from diptych.errors import WeightsError

    write_folder(their_model(), tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"no preprocessor_config.json.*not guessed"):
        read_weights(tmp_path)
