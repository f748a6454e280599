"""Arrays out of pickles that others made of dictionaries of numpy arrays; nothing in them is run."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.errors import WeightsError

DTYPES = ("f2", "f4", "f8", "i4", "i8")
"""What weights are made of, as numpy's pickles name it."""
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")


def read_pickled_arrays(path: Path) -> dict[str, Tensor]:
    """The state dict of a pickle of numpy arrays by name, or that under its "model", as detectron2 writes it.

    Raises:
        WeightsError: the pickle asks for anything but arrays, text, numbers and containers, or is damaged.
    """
    try:
        with path.open("rb") as file:
            found = _ArrayUnpickler(file, encoding="latin1").load()
        if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
            found = found["model"]
        if not isinstance(found, Mapping) or not all(isinstance(value, _Array) for value in found.values()):
            raise WeightsError("it holds no dictionary of arrays by name, nor one under 'model'")
        return {str(name): value.tensor() for name, value in found.items()}
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is no readable pickle of arrays ({reason}); get it again") from error


class _Dtype:
    """Stands in for a numpy type: its code and its order of bytes."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def known(self) -> np.dtype[Any]:
        """The type itself.

        Raises:
            WeightsError: it is none of numbers.
        """
        if self.code not in DTYPES or self.order not in ("<", "=", "|"):
            raise WeightsError(f"an array of type {self.order}{self.code}; expected one of {', '.join(DTYPES)}")
        return np.dtype("<" + self.code)


class _Array:
    """Stands in for a numpy array: what its pickle says of it."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def tensor(self) -> Tensor:
        """The numbers; a copy."""
        _, shape, dtype, by_columns, content = self.state
        content = content.encode("latin1") if isinstance(content, str) else content  # so Python 2 wrote bytes
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise WeightsError("an array of objects; expected numbers")
        numbers = np.frombuffer(content, dtype.known())
        return torch.from_numpy(numbers.reshape(shape, order="F" if by_columns else "C").copy())


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the stand-ins; every other name in the pickle ends the reading."""

    def find_class(self, module: str, name: str) -> Any:
        """What may stand for a name of the pickle."""
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _Array
        if module in _NUMERIC_MODULES and name == "_frombuffer":
            return _from_buffer
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if (module, name) == ("_codecs", "encode"):
            return _as_bytes
        if (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):
            return _no_bytes
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise WeightsError(f"the pickle asks for {module}.{name}, which plain arrays have no use for; it was not run")


def _as_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != "latin1":
        raise WeightsError(f"bytes in the encoding {encoding!r}; expected latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """The same of none at all."""
    return b""


def _from_buffer(content: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """How protocol 5 writes arrays."""
    found = _Array()
    found.state = (1, shape, dtype, order == "F", bytes(content))
    return found
