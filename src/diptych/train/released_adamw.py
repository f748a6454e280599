"""AdamW as UNITER, Oscar and their kin were trained with it: the form of the first PyTorch ports of BERT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ReleasedAdamW(torch.optim.Optimizer):
    """AdamW that adds `eps` before the second moment is corrected, and decays the weights that the update left.

    Its state has the names and meaning of `torch.optim.AdamW`'s, so that checkpoints hold both alike.
    """

    def __init__(
        self,
        groups: Iterable[nn.Parameter] | Iterable[Mapping[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of the parameters that have a gradient; each counts its own updates."""
        if closure is not None:
            raise ValueError("ReleasedAdamW takes no closure")
        for group in self.param_groups:
            learning = [one for one in group["params"] if one.grad is not None]
            if learning:
                self._update(learning, **{name: group[name] for name in ("lr", "betas", "eps", "weight_decay")})

    def _update(
        self, learning: list[Tensor], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        gradients = [one.grad for one in learning if one.grad is not None]
        steps, firsts, seconds = (list(row) for row in zip(*map(self._state_of, learning), strict=True))
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(firsts, gradients, 1 - betas[0])
        torch._foreach_mul_(seconds, betas[1])
        torch._foreach_addcmul_(seconds, gradients, gradients, 1 - betas[1])
        roots = torch._foreach_sqrt(seconds)
        torch._foreach_add_(roots, eps)
        sizes = [-lr * (1 - betas[1] ** int(t)) ** 0.5 / (1 - betas[0] ** int(t)) for t in steps]
        torch._foreach_addcdiv_(learning, firsts, roots, sizes)
        torch._foreach_mul_(learning, 1 - lr * weight_decay)

    def _state_of(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self.state[parameter]
        if not state:
            state |= {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return state["step"], state["exp_avg"], state["exp_avg_sq"]
