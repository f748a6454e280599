"""Tensors cut over ranks, on disk: every rank writes its shares, and any number of ranks reads them back.

`torch.distributed.checkpoint` in its form of safetensors, which has no pickle among its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes this rank's shares; every rank calls it.

    Raises:
        CheckpointError: a rank could not write its own.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise CheckpointError(_told(error)) from error


def names(folder: Path) -> list[str]:
    """Of the tensors in the folder."""
    return list(_reader(folder).read_metadata().state_dict_metadata)


def fill(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Reads into tensors that are whole or cut over the ranks in any way; every rank calls it.

    Raises:
        CheckpointError: a tensor is not there, of another shape, or cannot be read.
    """
    import torch.distributed as dist
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        load(tensors, storage_reader=_reader(folder), no_dist=not dist.is_initialized())
    except (CheckpointException, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder} does not fit: {_told(error)}") from error


def _reader(folder: Path) -> HuggingFaceStorageReader:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    return HuggingFaceStorageReader(str(folder))


def _told(error: BaseException) -> str:
    """The first failure of a rank; torch's own text is a page of tracebacks."""
    from torch.distributed.checkpoint.api import CheckpointException

    reason = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
    return f"{type(reason).__name__}: {reason}"
