"""One number for a trained network: what tells whether two files were made with the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.overrides import to_plain


def weights_hash(state: Mapping[str, Tensor], *settings: Any) -> str:
    """SHA-256 of the weights and of the settings that the network is built by, whatever file they came from."""
    digest = hashlib.sha256(json.dumps(to_plain(settings), sort_keys=True).encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
