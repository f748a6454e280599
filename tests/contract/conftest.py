"""What the contract suite stands on: a small world of scenes, and the tiny model of each room for it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diptych import systems
from diptych.data.examples import Task
from diptych.data.region_join import region_columns
from diptych.data.sample import Item, random_for
from diptych.data.scene_examples.writing import examples_of_scenes
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.overrides import apply_overrides
from diptych.train.job import Job
from diptych.train.run import Run

FEW = ("inputs.vocab_size=540", "inputs.workers=0", "training.steps=2", "training.batch=6", "training.eval_rows=6")
TEXTS = {"hat/1.png": "a red hat", "hat/2.png": "two hats", "shoe/3.png": "one shoe"}
"""Of the pictures that every source holds."""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, chance_regions: ModuleType) -> Table:
    """Scenes with everything that a task can ask for, and regions drawn by chance."""
    folder = tmp_path_factory.mktemp("contract") / "scenes"
    draw_scenes(folder, easy(num=160, seed=3, size_px=32), workers=1)
    table = open_table(folder)
    return table.joined(
        region_columns([chance_regions.write_regions(table, tmp_path_factory.mktemp("regions") / "store")])
    )


@pytest.fixture(scope="session")
def table_for(world: Table, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], Table]:
    """What a run learns from: the scenes, or the examples of them that it is fine-tuned on."""
    folder = tmp_path_factory.mktemp("examples")

    @cache
    def examples(task: Task) -> Table:
        examples_of_scenes(world, folder / task, task)
        return open_table(folder / task).joined(world.split("train").stores[0])

    return lambda run: examples(run.objective.name) if run.objective.name in get_args(Task) else world


def small(run: Run) -> Run:
    """The run, for a few rows and steps."""
    return apply_overrides(run, FEW)


@pytest.fixture(scope="session")
def build(table_for: Callable[[Run], Table]) -> Callable[..., Job]:
    """A run's objects on the world's texts; a run is built once."""

    @cache
    def built(run: Run) -> Job:
        rows = table_for(run).split("train")
        job = systems.build(small(run), texts=list(rows.texts())[:200], rows=rows)
        job.model.eval()  # batch norm would make rows depend on each other
        return job

    return built


@pytest.fixture(scope="session")
def items(table_for: Callable[[Run], Table]) -> Callable[[Job, int], list[Item]]:
    """The first rows of the training split as a room's inputs make them, with texts of unequal length."""

    def made(job: Job, num: int) -> list[Item]:
        samples = (table_for(job.run).split("train").sample(row, job.columns) for row in range(num))
        return [job.inputs.item(sample, random_for(0, 0, sample.key)) for sample in samples]

    return made


# -- the same three pictures in every format


def picture(name: str) -> bytes:
    """A picture of one colour, another for each name."""
    colour = [30 + 60 * (number % 4) for number in name.encode()[-6:-3]]
    out = io.BytesIO()
    Image.new("RGB", (5, 3), tuple(colour)).save(out, "PNG")
    return out.getvalue()


def put_source(name: str, folder: Path) -> Path:
    """Writes the three pictures with their texts as a source of the format `name`; class folders have labels alone."""
    folder.mkdir(parents=True)
    rows = [{"file_name": path, "text": text} for path, text in TEXTS.items()]
    match name:
        case "datasets":
            _put_data_set(folder)
        case "imagefolder":
            _put_pictures(folder)
            _put_lines(folder / "metadata.jsonl", rows)
        case "webdataset":
            _put_tar(folder / "shard-000.tar")
        case "parquet":
            columns = {"image": [{"bytes": picture(path), "path": path} for path in TEXTS], "text": [*TEXTS.values()]}
            pq.write_table(pa.table(columns), folder / "pairs.parquet")
        case "karpathy":
            _put_pictures(folder)
            images = [
                {"filename": path, "split": "train", "sentences": [{"raw": text}]} for path, text in TEXTS.items()
            ]
            (folder / "dataset_mine.json").write_text(json.dumps({"images": images, "dataset": "mine"}))
        case "coco":
            _put_pictures(folder)
            (folder / "captions_mine.json").write_text(json.dumps(_coco()))
        case "jsonl":
            _put_pictures(folder)
            _put_lines(folder / "pairs.jsonl", rows)
        case "csv":
            _put_pictures(folder)
            lines = "".join(f"{path},{text}\n" for path, text in TEXTS.items())
            (folder / "pairs.csv").write_text(f"image,caption\n{lines}")
        case "classfolder":
            _put_pictures(folder)
        case "pictures":
            for path in TEXTS:
                (folder / path.replace("/", "-")).write_bytes(picture(path))
        case _:
            pytest.fail(f"write a source of the format {name!r} here, so that the contract suite can read it")
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of the format, written once."""
    return cache(lambda name: put_source(name, tmp_path_factory.mktemp("source") / name))


def _put_pictures(folder: Path) -> None:
    for path in TEXTS:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(picture(path))


def _put_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _put_tar(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        for path, text in TEXTS.items():
            for name, content in ((path, picture(path)), (path.replace(".png", ".txt"), text.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _put_data_set(folder: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    columns = {"image": [{"bytes": picture(path), "path": path} for path in TEXTS], "text": [*TEXTS.values()]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _coco() -> dict[str, object]:
    named = list(enumerate(TEXTS.items(), 7))
    return {
        "images": [{"id": number, "file_name": path} for number, (path, _) in named],
        "annotations": [{"id": 50 + number, "image_id": number, "caption": text} for number, (_, text) in named],
    }
