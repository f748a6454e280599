"""Lists, dictionaries, texts and numbers out of pickles that others made; nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from diptych.errors import DataError


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds, if it is made of nothing but containers, texts, numbers, booleans and None.

    Texts that Python 2 wrote as bytes are read as UTF-8.

    Raises:
        DataError: it asks for a name of any module, which is how pickles run code; or it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is no readable pickle ({reason}); get it again") from error


class _PlainUnpickler(pickle.Unpickler):
    """Knows no name; the first one in a pickle ends the reading."""

    def find_class(self, module: str, name: str) -> Any:
        """Nothing may stand for a name of the pickle."""
        raise DataError(
            f"the pickle asks for {module}.{name}; expected lists, texts and numbers alone, so it was not run"
        )
