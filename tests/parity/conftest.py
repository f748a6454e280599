"""What the parity tests of CLIP share: small inputs with texts of unequal length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def padded_texts():
    """A function: (3, context) ids that begin with start, end with the largest id, and are padded with 0."""

    def make(vocab_size: int, context: int) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        ids = torch.zeros(3, context, dtype=torch.long)
        for row, length in zip(ids, (context, context // 2, 3), strict=True):
            row[:length] = torch.randint(1, vocab_size - 2, (length,), generator=generator)
            row[0], row[length - 1] = vocab_size - 2, vocab_size - 1
        return ids

    return make
