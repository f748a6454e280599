"""Models whose weights come from a file: built without drawing weights first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

M = TypeVar("M")
_DRAWING = frozenset(
    {
        init.normal_,
        init.uniform_,
        init.trunc_normal_,
        init.xavier_uniform_,
        init.xavier_normal_,
        init.kaiming_uniform_,
        init.kaiming_normal_,
        Tensor.normal_,
        Tensor.uniform_,
    }
)


class Unfilled(TorchFunctionMode):
    """While it lasts, what would be filled with random numbers keeps whatever its memory holds.

    On the CPU such memory costs nothing until something is written into it. torch's meta device would do as well for
    shapes, but its random numbers import the compiler, which takes a second.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Leaves out `func` where it draws."""
        kwargs = {} if kwargs is None else kwargs
        if func in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def unfilled(model: Callable[[Any], M], config: Any) -> M:
    """`model(config)` with weights that are to be loaded; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]), Unfilled():
        return model(config)
