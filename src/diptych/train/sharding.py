"""FSDP2: weights of which every rank has a share, and the way between shares and whole tensors."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from diptych.nn.stacks import stacks
from diptych.ranks import Ranks


def shard(module: nn.Module, ranks: Ranks, left_whole: Iterable[nn.Parameter]) -> FSDPModule:
    """Cuts every parameter over the ranks, in place; the layers of a stack are gathered one by one, the rest at once.

    Args:
        module: what is called in training, on its device.
        ranks: more than one.
        left_whole: parameters that stay whole on every rank.
    """
    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (ranks.size,))
    for stack in stacks(module):
        for layer in stack:
            fully_shard(layer, mesh=mesh)
    return fully_shard(module, mesh=mesh, ignored_params=set(left_whole))


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this rank may have a share; every rank calls it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's share of a whole tensor, cut as `like` is; where `like` is whole, the tensor itself."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
