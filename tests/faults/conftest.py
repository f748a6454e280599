"""One thread for every test here."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bit for bit holds for one number of threads."""
    torch.set_num_threads(1)
