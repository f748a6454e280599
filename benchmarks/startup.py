"""Milliseconds that one waits before anything happens: commands and imports, each in a process of its own.

python benchmarks/startup.py --json startup.json
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial

from harness import arguments, machine, print_machine, take_turns, write_json

WAYS = {
    "import torch": ["-c", "import torch"],
    "import open_clip": ["-c", "import open_clip"],
    "python -c pass": ["-c", "pass"],
    "import diptych": ["-c", "import diptych"],
    "diptych --help": ["-m", "diptych.cli.main", "--help"],
    "diptych train --help": ["-m", "diptych.cli.main", "train", "--help"],
    "diptych.load, and all it needs": ["-c", "import diptych.systems"],
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_machine()
    ways = {name: partial(start, words) for name, words in WAYS.items()}
    rates = take_turns(ways, rounds=1 if options.quick else 7)
    waits = {name: 1000 / statistics.median(values) for name, values in rates.items()}
    for name, wait in waits.items():
        print(f"  {name:44} {wait:8,.0f} ms   {wait / waits['import torch']:5.2f} x import torch", flush=True)
    write_json(options, {**machine(), "milliseconds": waits, "starts_per_s": rates})


def start(words: list[str]) -> int:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return 1


if __name__ == "__main__":
    main()
