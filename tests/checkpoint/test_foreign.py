"""Files that others made: what is read, and what is refused without being run."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from diptych.checkpoint.foreign import is_torchscript, read_tensors
from diptych.errors import WeightsError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


def test_safetensors_pickles_old_pickles_and_training_checkpoints_are_read(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "b.bin")
    torch.save(STATE, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 0.1}}, tmp_path / "d.pt")
    for file in tmp_path.iterdir():
        assert same(read_tensors(file)), file
        assert not is_torchscript(file)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file was run')",))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [pickle.dumps(Malicious(), protocol=2), b"", b"PK\x03\x04cut", b"\x80\x02x"])
def test_code_and_damage_are_refused(content, suffix, tmp_path):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights.*cannot be read as plain tensors"):
        read_tensors(file)


def test_code_inside_a_torch_file_is_refused(tmp_path):
    torch.save({"state_dict": STATE, "extra": Malicious()}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="never runs"):
        read_tensors(tmp_path / "weights.pt")


def test_a_file_cut_short_is_refused(tmp_path):
    for name in ("weights.pt", "weights.safetensors"):
        file = tmp_path / name
        torch.save(STATE, file) if name.endswith(".pt") else save_file(STATE, file)
        file.write_bytes(file.read_bytes()[:-30])
        with pytest.raises(WeightsError):
            read_tensors(file)


@pytest.mark.parametrize("content", [[STATE["b"]], {"epoch": 3}, STATE["b"]])
def test_what_is_no_state_dict_is_told(content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_tensors(tmp_path / "weights.pt")


def test_a_damaged_list_of_names_is_refused(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(STATE, file)
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02")] = 0  # the mark before the last name
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pt is a damaged archive .*get it again"):
        is_torchscript(file)
