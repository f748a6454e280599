"""Tensors out of files that others made, without running anything that those files hold; and into such files."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoint.files import PARTIAL
from diptych.data.durable import flush_to_disk
from diptych.errors import WeightsError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in one of torch read with `weights_only`.

    A training checkpoint gives its `state_dict`, one of detectron2 its `model`. A file that is refused is not tried in
    a less safe way.

    Raises:
        WeightsError: the file is damaged, holds more than tensors, or no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # mmap: a training checkpoint's optimizer state, twice the weights, is then never read.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as plain tensors: {_first_line(error)}. It is damaged, or holds code, "
            "which diptych never runs; get it again, or as .safetensors"
        ) from error
    for name in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict (names with tensors), nor one under 'state_dict' or 'model'")
    return dict(found)


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file as other libraries take it: there whole or not at all."""
    partial = file.with_name(file.name + PARTIAL)
    save_file(dict(tensors), partial, metadata={"format": "pt"})
    flush_to_disk(partial)
    partial.rename(file)


def tensor_names(path: Path) -> frozenset[str]:
    """The names in a file that `read_tensors` reads; of safetensors its head alone is read.

    Raises:
        WeightsError: as `read_tensors`.
    """
    if path.suffix != ".safetensors":
        return frozenset(read_tensors(path))
    try:
        with safe_open(path, "pt") as tensors:
            return frozenset(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {_first_line(error)}; get it again") from error


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive: a zip that carries code.

    Raises:
        WeightsError: it ends as a zip does, and is a damaged one.
    """
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception as error:  # a damaged list of names raises whatever its bytes happen to say
        raise WeightsError(f"{path} is a damaged archive ({_first_line(error)}); get it again") from error


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their attribute names, its code left alone.

    Raises:
        WeightsError: the archive is damaged or its pickle asks for anything but tensors and containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            with archive.open(root + "data.pkl") as stream:
                module = _ScriptUnpickler(stream, lambda key: archive.read(f"{root}data/{key}")).load()
        return dict(_tensors_of(module, ""))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise WeightsError(f"{path} is no readable TorchScript archive ({_first_line(error)}); get it again") from error


@dataclass(frozen=True)
class _Storage:
    """A storage that the pickle speaks of."""

    dtype: torch.dtype
    key: str
    num_elements: int


class _ScriptObject:
    """Stands in for an object of any class that the archive's own code defines: its attributes, nothing more."""

    def __init__(self, *arguments: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, Mapping) else {}


STORAGES: Mapping[str, torch.dtype] = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class _ScriptUnpickler(pickle.Unpickler):
    """Knows tensors, containers and stand-ins; every other name in the pickle ends the reading."""

    def __init__(self, stream: Any, read_storage: Callable[[str], bytes]) -> None:
        super().__init__(stream)
        self.read_storage = read_storage

    def find_class(self, module: str, name: str) -> Any:
        """What may stand for a name of the pickle."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _ScriptObject
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch.jit._pickle" and name in LISTS:
            return list
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise WeightsError(f"the archive asks for {module}.{name}, which plain weights have no use for; it was not run")

    def persistent_load(self, identity: Any) -> _Storage:
        """A storage by what the pickle says of it: a mark, type, file, device, number of elements."""
        _, dtype, key, _, num_elements = identity
        return _Storage(dtype, str(key), int(num_elements))

    def _tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        content = self.read_storage(storage.key)
        if len(content) != storage.num_elements * storage.dtype.itemsize:
            raise WeightsError(
                f"the tensor file data/{storage.key} has {len(content)} bytes, expected "
                f"{storage.num_elements * storage.dtype.itemsize}; the archive is damaged"
            )
        if storage.num_elements == 0:
            return torch.empty(size, dtype=storage.dtype)
        flat = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        return flat.as_strided(size, stride, offset)  # raises where it would leave the storage


def _tensors_of(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a stand-in and the stand-ins within it."""
    if not isinstance(module, _ScriptObject):
        return
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors_of(value, f"{prefix}{name}.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
