"""Partners: which other rows are put beside a row, where an objective needs some, as a store by keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.layout import STORE
from diptych.data.table import PARTNERS, Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

OF = "of"
"""What a store says of the table of its rows."""


@dataclass(frozen=True)
class Partners:
    """A store with the column "partners", joined to a table so that its rows are put beside those that are named."""

    splits: tuple[Rows, ...]
    of: str
    """The fingerprint of the table that the rows are of."""
    fingerprint: str
    """Of its own content."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.splits[0].path

    @property
    def columns(self) -> tuple[str, ...]:
        """What a sample may ask for."""
        return (PARTNERS,)

    @property
    def fewest(self) -> int:
        """Partners of the row that has the fewest, of those that have some."""
        lengths = [pc.list_value_length(rows.column(PARTNERS)).to_numpy() for rows in self.splits]
        return min((int(mine[mine > 0].min()) for mine in lengths if (mine > 0).any()), default=0)

    def stored(self, key: str, column: str) -> tuple[str, ...]:
        """Keys of the partners of a row; none where nobody named any."""
        for rows in self.splits:
            if (row := rows.find([key])[0]) is not None:
                return tuple(rows.values(row, [column])[0])
        return ()


def write_partners(out: Path, rows: Rows, named: Iterable[tuple[str, list[str]]], source: str) -> None:
    """Writes a store of the keys of some of the rows and of their partners, other rows of the same split.

    Raises:
        RunExistsError: `out` is there already.
    """
    columns, meta = {PARTNERS: pa.list_(pa.string())}, {OF: rows.fingerprint}
    with TableWriter(out, kind=STORE, columns=columns, meta=meta, source=source) as writer:
        for key, partners in named:
            writer.add(rows.name, key=key, fields={PARTNERS: partners})


def joined_partners(rows: Rows) -> Partners | None:
    """Those that are joined to rows; None where none are."""
    return next((store for store in rows.stores if isinstance(store, Partners)), None)


def open_partners(path: Path) -> Partners:
    """The store in folder `path`.

    Raises:
        DataError: it is none, or damaged.
    """
    table = open_table(path)
    if PARTNERS not in table.columns or OF not in table.meta:
        raise DataError(f"{path} holds no partners of rows; expected what `diptych data partners` writes")
    return Partners(tuple(table.split(name) for name in table.splits), table.meta[OF], table.fingerprint)
