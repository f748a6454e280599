"""Regions of your own pictures: boxes, features and names of what is in every picture below a folder, as a store.

    python examples/own_regions.py my_pictures --tower runs/clip --words words.txt --out regions/mine

Windows over the image tower of a CLIP need no detector and no labels; the same CLIP names them, from your word list.
With `--detector own:runs/own` or `butd:PATH` a detector finds the regions and names them itself.

For a table of pictures `diptych regions extract` does the same, and more: it is predicted, resumed, shared out.
"""

import argparse
from pathlib import Path

from diptych.data.decoding import find_pictures
from diptych.data.images import decode
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import RegionDetector
from diptych.data.tags import tags_of
from diptych.errors import DataError
from diptych.systems.detectors import name_regions, named_detector


def the_detector(options: argparse.Namespace) -> RegionDetector:
    """The detector that is asked for; else windows, named from the words where there are some."""
    if options.detector is not None:
        return named_detector(options.detector, device=options.device).detector
    windows = named_detector(f"windows:{options.tower}", device=options.device).detector
    if options.words is None:
        return windows
    return name_regions(windows, options.tower, options.words, device=options.device)


def write_regions(detector: RegionDetector, folder: Path, out: Path) -> None:
    """The regions of every picture below `folder`, under its path from there; bad pictures cost themselves."""
    with RegionWriter(out, detector.spec) as writer:
        for path in find_pictures(folder):
            try:
                (regions,) = detector.detect([decode(path)])
                writer.add(path.relative_to(folder).as_posix(), regions)
            except DataError as error:
                print(f"left out: {error}")


def main() -> None:
    """Writes the store, opens it, and prints what each picture shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder, with all below it")
    maker = parser.add_mutually_exclusive_group(required=True)
    maker.add_argument("--tower", help="a CLIP: a run, or what else diptych.load reads")
    maker.add_argument("--detector", help="own:RUN or butd:PATH")
    parser.add_argument("--words", type=Path, help="names for windows, one a line")
    parser.add_argument("--out", type=Path, default=Path("regions/mine"), help="the folder of the store")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    write_regions(the_detector(options), options.pictures, options.out)
    store = open_region_table(options.out)
    width = store.spec.feature_width
    print(f"{store.num_regions:,} regions of {len(store):,} pictures, each {width} numbers: {store.path}")
    keys = list(store.keys())
    for key in keys:
        regions = store.regions(key)
        tags = tags_of(regions, store.spec, unique=True) if store.spec.classes else ()
        print(f"{key}: " + ", ".join([f"{len(regions)} regions", *tags]))


if __name__ == "__main__":
    main()
