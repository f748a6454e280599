"""What one rank does in a test of several: trains every run that was asked for, one after the other.

ranks_program.py TABLE OUT [FOLDER:OBJECTIVE:FIELD=VALUE,... ...], begun once a rank with the variables that torchrun
sets. A run that is there goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import small_room
import torch

from diptych.data.table import open_table
from diptych.ranks import join_ranks
from diptych.train.fit import fit


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    table, out, *runs = arguments
    with join_ranks("cpu"):
        for run in runs:
            folder, objective, settings = run.split(":")
            job = small_room.small_job(small_room.run_in_ranks(objective), [one for one in settings.split(",") if one])
            fit(job, open_table(Path(table)), Path(out) / folder, resume=True, device="cpu")


if __name__ == "__main__":
    main(sys.argv[1:])
