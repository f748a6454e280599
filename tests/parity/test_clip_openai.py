"""OpenAI's TorchScript archives, made here of random weights: read without running them, sizes taken from tensors."""

from __future__ import annotations

import pickle
import zipfile

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diptych.checkpoint.foreign import is_torchscript, read_torchscript
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import identify, read_weights
from diptych.errors import WeightsError

VIT = ClipConfig(
    embed_dim=12,
    image_size=32,
    patch_size=16,
    image_width=768,
    image_layers=(1,),
    context=7,
    vocab_size=40,
    end_id=39,
    text_layers=1,
)
RESNET = ClipConfig(
    embed_dim=12,
    image="resnet",
    image_size=64,
    image_width=64,
    image_layers=(1, 2, 1, 1),
    image_heads=32,
    context=7,
    vocab_size=40,
    end_id=39,
    text_layers=2,
)


pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")


class Holder(nn.Module):
    """A module tree with OpenAI's names and any tensors, to be scripted; it computes nothing."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids


def holder(state: dict[str, torch.Tensor]) -> Holder:
    root = Holder()
    for key, tensor in state.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, Holder())
            module = module.get_submodule(part)
        if tensor.is_floating_point():
            module.register_parameter(name, nn.Parameter(tensor))
        else:
            module.register_buffer(name, tensor)
    return root


def archive_of(config: ClipConfig, path) -> CLIP:
    """Saves a random model of `config` as OpenAI's files are: half precision, metadata keys, a mask; returns ours."""
    torch.manual_seed(0)
    model = CLIP(config).eval()
    state = {name.removeprefix("text."): tensor.detach() for name, tensor in model.state_dict().items()}
    state = {
        name: tensor.half() if tensor.dim() > 1 and "embedding" not in name else tensor
        for name, tensor in state.items()
    }
    state |= {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    root = holder(state)
    root.transformer.attn_mask = torch.zeros(7, 7)  # an attribute, neither parameter nor buffer
    torch.jit.script(root).save(str(path))
    return model


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_sizes_and_tensors_are_read_from_the_archive(config, tmp_path):
    path = tmp_path / "model.pt"
    model = archive_of(config, path)
    assert identify(path) == "openai"
    published = read_weights(path)
    assert published.config == config
    assert {"input_resolution", "context_length", "vocab_size"} <= published.ignored.keys()
    ours = CLIP(published.config)
    ours.load_state_dict(published.state)
    for name, tensor in model.state_dict().items():
        expected = published.state[name]
        assert expected.dtype in (torch.float32, torch.int64)
        assert_close(expected, tensor, atol=1e-3, rtol=1e-3)
    ids = torch.tensor([[38, 5, 6, 39, 0, 0, 0], [38, 8, 39, 0, 0, 0, 0]])
    with torch.inference_mode():
        assert_close(ours.eval().encode_text(ids), model.encode_text(ids), atol=1e-2, rtol=1e-2)


def test_what_the_reader_finds_is_what_torch_finds(tmp_path):
    path = tmp_path / "model.pt"
    archive_of(RESNET, path)
    theirs = torch.jit.load(str(path)).state_dict()
    ours = read_torchscript(path)
    assert set(theirs) == set(ours) - {"transformer.attn_mask"}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_views_of_one_storage_are_read_as_views(tmp_path):
    root = Holder()
    both = torch.arange(12.0).reshape(3, 4)
    root.register_buffer("whole", both)
    root.register_buffer("turned", both.mT)
    root.register_buffer("part", both[1:, 2:])
    torch.jit.script(root).save(str(tmp_path / "model.pt"))
    found = read_torchscript(tmp_path / "model.pt")
    assert torch.equal(found["turned"], both.mT) and torch.equal(found["part"], both[1:, 2:])


def rewritten(path, replace: dict[str, bytes]):
    """The archive with some of its files replaced."""
    other = path.with_name("other.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = next((new for end, new in replace.items() if name.endswith(end)), source.read(name))
            target.writestr(name, content)
    return other


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (exec, ("raise SystemExit('the archive was run')",))

    archive_of(VIT, tmp_path / "model.pt")
    path = rewritten(tmp_path / "model.pt", {"/data.pkl": pickle.dumps(Malicious(), protocol=2)})
    with pytest.raises(WeightsError, match=r"builtin.*exec.*not run"):
        read_weights(path)


@pytest.mark.parametrize(
    ("file", "content"), [("/data.pkl", b"\x80\x02nonsense"), ("/data.pkl", b""), ("data/0", b"\x00\x01")]
)
def test_damage_is_told(file, content, tmp_path):
    archive_of(VIT, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"other\.pt"):
        read_weights(rewritten(tmp_path / "model.pt", {file: content}))


def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path):
    root = Holder()
    root.register_buffer("weight", torch.arange(6.0))
    torch.jit.script(root).save(str(tmp_path / "model.pt"))
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        content = archive.read(name)
    assert content.count(b"(K\x06t") == 1  # the size (6,)
    path = rewritten(tmp_path / "model.pt", {"/data.pkl": content.replace(b"(K\x06t", b"(K\x60t")})
    with pytest.raises(WeightsError, match="no readable TorchScript archive"):
        read_torchscript(path)


def test_widths_that_are_not_openais_are_not_guessed(tmp_path):
    odd = ClipConfig(**{**vars(VIT), "image_width": 96, "image_heads": 4})
    archive_of(odd, tmp_path / "model.pt")
    with pytest.raises(
        WeightsError, match=r"widths \(96 for pictures, 512 for text\) are not OpenAI's.*say which model it is"
    ):
        read_weights(tmp_path / "model.pt")
    assert read_weights(tmp_path / "model.pt", odd).config == odd


def test_a_plain_checkpoint_is_no_archive(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    assert not is_torchscript(tmp_path / "a.pt")
    assert identify(tmp_path / "a.pt") == "open_clip"
