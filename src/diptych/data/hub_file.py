"""One file of the Hugging Face hub, from its cache or downloaded."""

from __future__ import annotations

from pathlib import Path

ANSWER_S = 10.0
"""How long the hub has to answer before the cache alone is asked."""


def hub_file(repository: str, name: str) -> Path:
    """The file, as new as the hub has it; the one in the cache where the hub cannot be reached.

    `hf_hub_download` alone asks an unreachable hub again and again, half a minute for each file, before it says so.

    Raises:
        EntryNotFoundError: of `huggingface_hub`: there is no such file; or neither the hub nor a copy in the cache.
        OSError, ValueError, HfHubHTTPError: likewise of `huggingface_hub`.
    """
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, name, local_files_only=not _answers(repository, name)))


def _answers(repository: str, name: str) -> bool:
    """Whether the hub says anything of this file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=ANSWER_S)
    except HfHubHTTPError:
        return True
    except Exception:  # each version's client has errors of its own for having no network
        return False
    return True
