"""A Step as the ranks run it: alone, under DDP or under FSDP2. Everything above calls all three in one way."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from diptych.data.batch import Batch, Targets
from diptych.ranks import ALONE, Ranks
from diptych.train.step import Around, Step

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

Kind = Literal["ddp", "fsdp2"]
NOT_IN_SHARES = "fp16's loss scale is not kept over shares of weights"
"""Why FSDP2 refuses fp16."""


class Parallel:
    """A Step whose gradients are the mean over the ranks of each rank's own, once `finish` was called.

    DDP keeps all weights on every rank. FSDP2 keeps a share of each, except of those without a dimension, which it does
    not take: they stay whole.
    """

    def __init__(self, step: Step, kind: Kind = "ddp", ranks: Ranks = ALONE) -> None:
        """Wraps the step; under FSDP2 its parameters become shares of themselves, in place."""
        self.step = step
        self.ranks = ranks
        self._ddp: DistributedDataParallel | None = None
        self._fsdp: FSDPModule | None = None
        self._left_whole: list[nn.Parameter] = []
        if ranks.size > 1 and kind == "ddp":
            self._ddp = _data_parallel(step)
        elif ranks.size > 1:
            from diptych.train.sharding import shard

            self._left_whole = [parameter for parameter in step.parameters() if parameter.dim() == 0]
            self._fsdp = shard(step, ranks, self._left_whole)

    @property
    def sharded(self) -> bool:
        """Whether parameters are shares of themselves."""
        return self._fsdp is not None

    def __call__(self, batch: Batch, targets: Targets | None = None, around: Around | None = None) -> Any:
        """As the Step's `forward`; always through here, since what is put around it acts on calls."""
        return (self._ddp or self.step)(batch, targets, around)

    @contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of one part of a step: gradients are exchanged in the last one alone."""
        if self._fsdp is not None:
            self._fsdp.set_requires_gradient_sync(last)
        if self._ddp is None or last:
            yield
        else:
            with self._ddp.no_sync():
                yield

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor of which this rank may have a share; every rank calls it."""
        if self._fsdp is None:
            return tensor
        from diptych.train.sharding import whole

        return whole(tensor)

    def whole_on_lead(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that may be shares, whole and in the lead's memory alone; every rank calls it."""
        if self._fsdp is None:
            return dict(tensors)
        gathered = ((name, self.whole(value)) for name, value in tensors.items())  # one at a time: all may not fit
        return {name: value.cpu() for name, value in gathered if self.ranks.leads}

    def finish(self) -> None:
        """After the last part: what neither DDP nor FSDP2 exchanges becomes the mean over the ranks here."""
        if self.ranks.size == 1:
            return
        norms = [module for module in self.step.modules() if isinstance(module, _BatchNorm)]
        values = [one.grad for one in self._left_whole]
        values += [value for one in norms for value in (one.running_mean, one.running_var)]
        there = [value for value in values if value is not None]
        self.ranks.add_up(there)
        for value in there:
            value.div_(self.ranks.size)


def _data_parallel(step: Step) -> DistributedDataParallel:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # the argument that takes its place is younger than the oldest torch that we take
        return DistributedDataParallel(
            step,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            # A model with heads is read in part: by the objective of a step, which may also leave out a tower.
            find_unused_parameters=len(step.encode.heads) > 0,
        )
