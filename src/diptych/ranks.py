"""Ranks: the processes that train together, and the little that they tell each other beside tensors.

`torchrun` begins them and says by environment variables who is who; a process that it did not begin is one alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from diptych.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
WAIT_S = 600.0
"""How long a process waits for the others before it takes one of them for dead."""
GO_ON = "No checkpoint is lost: the same command with --resume goes on from the last one."
_LOST = re.compile(r"gloo|nccl|c10d|connection (closed|reset)|timed out", re.IGNORECASE)
"""What torch says, in many ways, of a process that does not answer."""


class LostRankError(TrainingError):
    """Another process of the run died or does not answer."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, seen from one of them. Every method is called by all, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those of the same machine: the number of its GPU."""

    @property
    def leads(self) -> bool:
        """True for the one process that writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every rank has come here."""
        self.gathered([0])

    def gathered(self, values: Sequence[int]) -> list[list[int]]:
        """The numbers of every rank, in the order of ranks."""
        if self.size == 1:
            return [list(values)]
        import torch
        import torch.distributed as dist

        given = [torch.empty(len(values), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(given, torch.tensor(list(values), dtype=torch.int64))
        return [one.tolist() for one in given]

    def joined(self, items: Sequence[T]) -> list[T]:
        """What all ranks give, in the order of ranks; anything that can be pickled."""
        if self.size == 1:
            return list(items)
        import torch.distributed as dist

        given: list[Any] = [None] * self.size
        dist.all_gather_object(given, list(items))
        return [item for of_rank in given for item in of_rank]

    def from_lead(self, make: Callable[[], T]) -> T:
        """What `make` gives where the lead runs it; where it fails there, it fails for all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        answer: list[Any] = [None, None]
        if self.leads:
            try:
                answer[0] = make()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        return cast(T, answer[0])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over all ranks into each tensor, in one exchange."""
        if self.size == 1 or not tensors:
            return
        import torch
        import torch.distributed as dist

        flat = torch.cat([one.detach().reshape(-1).float() for one in tensors])
        dist.all_reduce(flat)
        for one, part in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
            one.detach().copy_(part.reshape(one.shape))


ALONE = Ranks()


@contextmanager
def join_ranks(device: str, wait_s: float = WAIT_S, *, go_on: str = GO_ON) -> Iterator[Ranks]:
    """Makes this process one of those that `torchrun` began, for as long as the context lasts.

    Contexts may be nested; the outermost one begins and ends the group.

    Args:
        device: "auto", "cpu" or "cuda": where tensors are exchanged; numbers and objects always go by the CPU.
        wait_s: how long one waits for the others.
        go_on: what to say, where another is lost, of how the work is taken up again.
    Raises:
        LostRankError: at the end of the context: another process died or did not answer in time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    import torch.distributed as dist

    ranks = Ranks(rank=int(os.environ["RANK"]), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    begins = not dist.is_initialized()
    try:
        if begins:
            _begin(device, ranks, wait_s)
        yield ranks
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and _LOST.search(str(error)) is None:
            raise
        raise LostRankError(
            f"another of the {size} processes of this run died, or did not answer within {wait_s:.0f} s "
            f"({str(error).splitlines()[0]}); what it printed says why. {go_on} `torchrun --max-restarts N` does "
            "so by itself."
        ) from error
    finally:
        if begins and dist.is_initialized():
            dist.destroy_process_group()


def _begin(device: str, ranks: Ranks, wait_s: float) -> None:
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    on_gpus = device.startswith(("cuda", "auto")) and ranks.local_rank < torch.cuda.device_count()
    if on_gpus:  # where there is none for this rank, `resolve_device` says so
        torch.cuda.set_device(ranks.local_rank)
    timeout = timedelta(seconds=wait_s)
    store, _, _ = next(rendezvous("env://", ranks.rank, ranks.size, timeout=timeout))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        store=dist.PrefixStore(_attempt(ranks), store),  # type: ignore[attr-defined]
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=timeout,
    )


def _attempt(ranks: Ranks) -> str:
    """A name for this attempt of torchrun.

    It keeps one store over restarts, in which the addresses of the dead still stand. Agents of several machines may
    count restarts differently; there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives every attempt a store of its own.
    """
    on_one_machine = os.environ.get("LOCAL_WORLD_SIZE") == str(ranks.size)
    return f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') if on_one_machine else 'any'}"
