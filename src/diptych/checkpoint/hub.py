"""Files of the Hugging Face hub, fetched only where somebody named the repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.data.hub_file import hub_file
from diptych.errors import WeightsError


def download_first(repository: str, names: Sequence[str]) -> Path:
    """The first of these files that the repository has, from the cache or downloaded.

    Raises:
        WeightsError: none can be had.
    """
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    reason: Exception | None = None
    for name in names:
        try:
            return hub_file(repository, name)
        except EntryNotFoundError as error:  # also where it is not in the cache and there is no network
            reason = error
        except (OSError, ValueError, HfHubHTTPError) as error:
            reason = error
            break
    raise WeightsError(
        f"{repository} is no file or folder here, and {' or '.join(names)} of it could be had neither from the hub's "
        f"cache nor from the hub ({type(reason).__name__}). Check the name and the network, or download the model "
        "and pass its folder"
    ) from reason
