"""AdamW without decay on gains and biases, the averaged weights, and both as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diptych.errors import CheckpointError
from diptych.train.released_adamw import ReleasedAdamW
from diptych.train.run import OptimSettings


def make_optimizer(model: nn.Module, settings: OptimSettings, device: torch.device) -> torch.optim.Optimizer:
    """AdamW over the parameters that learn, fused where the device has it.

    CLIP, arXiv:2103.00020, section 2.5: decoupled weight decay "to all weights that are not gains or biases", which
    are the parameters of fewer than two dimensions; the temperature is one of them. Under released arithmetic those
    that the model calls its `decayed_gains` shrink too.
    """
    released = settings.arithmetic == "released"
    also = frozenset(getattr(model, "decayed_gains", ())) if released else frozenset[str]()
    learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, one in learning.items():
        decay = settings.weight_decay if one.dim() >= 2 or name in also else 0.0
        times = settings.head_lr if name.startswith("heads.") else 1.0
        kinds.setdefault((decay, times), []).append(one)
    groups = [{"params": each, "weight_decay": decay, "times": times} for (decay, times), each in kinds.items()]
    if released:
        return ReleasedAdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    fused = device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for every group; of the heads as often as the settings say."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


def clip_gradients(
    parameters: Iterable[nn.Parameter], largest: float | None, whole: Callable[[Tensor], Tensor] = lambda norm: norm
) -> Tensor:
    """The norm of the whole gradient before clipping; gradients are scaled down to `largest` where it is given.

    Where the norm is not finite, gradients stay as they are: scaled by it, all would break and hide which did first.

    Args:
        parameters: with their gradients.
        largest: norm that is left; None: no clipping.
        whole: makes the norm of gradients that are shares the norm of all.
    Returns:
        () float32; infinite or NaN where a gradient is.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    norm = whole(torch.nn.utils.get_total_norm([one.grad for one in learning if one.grad is not None]))
    if largest is not None:
        # A norm of 0 scales nothing; a branch on the norm would wait for the device.
        torch.nn.utils.clip_grads_with_norm_(learning, largest, norm.nan_to_num(nan=0.0, posinf=0.0))
    return norm


class AveragedWeights:
    """An exponential average of everything a model learns, batch statistics included."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves each average towards the weights of now by 1 - decay; counters are copied."""
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - self.decay)
            else:
                self.tensors[name].copy_(value)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights for as long as the context lasts."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by names such as "exp_avg.text.token.weight"; safetensors can hold it, no pickle needed."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{kind}.{name}"] = value
    return tensors


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave.

    Raises:
        CheckpointError: a tensor belongs to no parameter, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        kind, _, name = full_name.partition(".")
        parameter = parameters.get(name)
        if parameter is None or (kind != "step" and value.shape != parameter.shape):
            raise CheckpointError(
                f"the optimizer's {full_name!r} of shape {tuple(value.shape)} fits no parameter of the model; "
                "the checkpoint is of another model. Begin again with another --out."
            )
        # Laid out in memory as the parameter is: the fused optimizer walks over both side by side.
        like = value.new_empty(()).to(parameter.device) if kind == "step" else torch.empty_like(parameter)
        optimizer.state[parameter][kind] = like.copy_(value)
