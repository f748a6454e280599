"""Learner: the weights with everything that changes them, one optimizer step at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diptych.checkpoint.store import Checkpoint
from diptych.data.batch import Batch, Targets, move_targets
from diptych.errors import CheckpointError, UsageError
from diptych.objectives.objective import Loss
from diptych.ranks import ALONE, Ranks
from diptych.train.caching import accumulate_gradients
from diptych.train.device import Precision
from diptych.train.job import Job
from diptych.train.optim import (
    AveragedWeights,
    clip_gradients,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from diptych.train.parallel import NOT_IN_SHARES, Parallel
from diptych.train.schedule import learning_rate
from diptych.train.step import Step, reseed

WEIGHTS = "weights."
"""Where the weights of now stand among the optimizer's tensors, when the averaged ones are the model."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one step did."""

    loss: float
    """Weighted and divided, in nats."""
    parts: Loss
    grad_norm: float
    """Before clipping."""
    rate: float
    finite: bool
    """Whether loss and gradient were; where not, no weight was changed."""


class Learner:
    """A model on its device with optimizer, averaged weights and gradient scaler."""

    def __init__(
        self, job: Job, *, steps: int, device: torch.device, precision: Precision, ranks: Ranks = ALONE
    ) -> None:
        """Moves the job's model to the device, and shares it among the ranks as `training.parallel` says.

        Raises:
            UsageError: activation checkpointing is on, and the model cannot do it; or fp16 under FSDP2.
        """
        self.settings = job.run.training
        self.optim = job.run.optim
        self.steps = steps
        self.device = device
        in_shares = ranks.size > 1 and self.settings.parallel == "fsdp2"
        # Convolutions run up to 1.8 times as fast with channels last, which FSDP2 does not take.
        order = torch.contiguous_format if in_shares else torch.channels_last
        self.model = job.model.to(device, memory_format=order)  # type: ignore[call-overload]
        if self.settings.activation_checkpointing:
            _checkpoint_activations(self.model)
        if self.settings.compile:
            self.model.compile()
        if in_shares and precision.name == "fp16":
            raise UsageError(f"{NOT_IN_SHARES}; set training.precision=bf16")
        self.step = Step(self.model, job.objective, precision.autocast).train()
        self.parallel = Parallel(self.step, self.settings.parallel, ranks)
        self.optimizer = make_optimizer(self.model, self.optim, device)
        self.averaged = None if self.optim.ema is None else AveragedWeights(self.model, self.optim.ema)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.name == "fp16")

    def update(self, batch: Batch, targets: Targets, number: int, *, micro_batch: int | None) -> Update:
        """Learns from one global batch; a loss or gradient that is not finite changes nothing.

        Args:
            batch: this rank's rows of the step, on any device.
            targets: drawn for them.
            number: of the step, from 0.
            micro_batch: rows that go through the model at once; None: all. The loop's word, who may have measured it.
        """
        rate = learning_rate(self.optim, number, self.steps)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        loss = accumulate_gradients(
            self.parallel,
            batch.to(self.device),
            move_targets(targets, self.device),
            micro_batch=micro_batch,
            reseed=partial(reseed, self.settings.seed, number, self.parallel.ranks.rank),
            scaled=self.scaler.scale,
        )
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model.parameters(), self.optim.clip_norm, self.parallel.whole)
        value = loss.divided({name: term.count for name, term in loss.terms.items()})
        # The one wait for the device in a step: no weight may change before both are known to be finite.
        loss_value, norm_value = torch.stack([value.float(), norm.float()]).tolist()
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        self._apply(finite, statistics)
        return Update(loss=loss_value, parts=loss, grad_norm=norm_value, rate=rate, finite=finite)

    def _apply(self, finite: bool, statistics: list[Tensor]) -> None:
        if not finite:
            for buffer, value in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(value)
        if finite or self.scaler.is_enabled():  # the scaler itself leaves a step out, and lowers its scale for it
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if finite and self.averaged is not None:
            self.averaged.update(self.model)

    def forgives(self, update: Update) -> bool:
        """Whether a step that was left out is only fp16 finding its loss scale."""
        return self.scaler.is_enabled() and math.isfinite(update.loss) and self.scaler.get_scale() >= 1.0

    def broken_gradients(self) -> list[str]:
        """Names of the parameters whose gradient is not finite."""
        named = self.model.named_parameters()
        return [name for name, one in named if one.grad is not None and not bool(torch.isfinite(one.grad).all())]

    def weights_to_use(self) -> AbstractContextManager[None]:
        """The model with the weights that are evaluated: averaged where there are such."""
        return nullcontext() if self.averaged is None else self.averaged.in_place_of(self.model)

    def temperature(self) -> float | None:
        """What cosines were divided by in the last step, None for models without one."""
        scale = self.step.encode.last_scale
        if scale is None:
            return None
        return 1.0 / float(scale) if scale else math.inf  # a scale that a step much too long has sent to 0

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights to use, and what only going on needs, for a checkpoint. Every rank calls it.

        Where weights are shares, the first come whole to the lead (and to it alone), and the others are shares.
        """
        own, optimizer = dict(self.model.state_dict()), optimizer_tensors(self.optimizer, self.model)
        if self.averaged is None:
            return self.parallel.whole_on_lead(own), optimizer
        rest = optimizer | {WEIGHTS + name: value for name, value in own.items()}
        return self.parallel.whole_on_lead(self.averaged.tensors), rest

    def loss_scale(self) -> dict[str, Any]:
        """The gradient scaler's numbers, for a checkpoint."""
        return self.scaler.state_dict()

    def load(self, checkpoint: Checkpoint, loss_scale: dict[str, Any]) -> None:
        """Goes on where `tensors` and `loss_scale` were taken.

        Raises:
            CheckpointError: the checkpoint is of another model.
        """
        to_use, rest = checkpoint.model(), self._optimizer_of(checkpoint)
        own = {name.removeprefix(WEIGHTS): value for name, value in rest.items() if name.startswith(WEIGHTS)}
        try:
            self.model.load_state_dict(own or self._shares(to_use))
        except RuntimeError as error:
            raise CheckpointError(f"the weights in {checkpoint.folder} are of another model: {error}") from error
        if self.averaged is not None:
            self.averaged.tensors = {name: value.to(self.device) for name, value in self._shares(to_use).items()}
        load_optimizer(self.optimizer, self.model, {name: rest[name] for name in rest if not name.startswith(WEIGHTS)})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(loss_scale)

    def _optimizer_of(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """What only going on needs, whole or in shares as this run's parameters are, however it was saved."""
        if not checkpoint.in_shares:
            return self._shares(checkpoint.optimizer())
        likes, number = self._likes(), torch.zeros(())  # the count of steps is a number for each parameter
        rest = {name: torch.zeros_like(likes.get(name, number)) for name in checkpoint.optimizer_names()}
        checkpoint.fill(rest)
        return rest

    def _shares(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This rank's shares of whole tensors, where weights are cut over the ranks."""
        if not self.parallel.sharded:
            return dict(tensors)
        from diptych.train.sharding import share_like

        likes = self._likes()
        return {name: share_like(value, likes.get(name, value)) for name, value in tensors.items()}

    def _likes(self) -> dict[str, Tensor]:
        """By the names of a checkpoint: tensors that are cut as its own are to be."""
        own = self.model.state_dict()
        return own | {f"{kind}{name}": own[name] for kind in ("exp_avg.", "exp_avg_sq.", WEIGHTS) for name in own}


def _checkpoint_activations(model: nn.Module) -> None:
    if not hasattr(model, "activation_checkpointing"):
        raise UsageError(
            "training.activation_checkpointing is on, but this model has no such switch. Set it to false; a smaller "
            "training.micro_batch saves memory too."
        )
    model.activation_checkpointing = True  # type: ignore[assignment]
