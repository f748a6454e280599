from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.formats import hub
from diptych.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def saved(tmp_path: Path, make_picture) -> Path:
    """Two splits as `save_to_disk` leaves them."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "yak"]),
        }
    )
    image = {"bytes": make_picture(1), "path": "1.png"}
    part = datasets.Dataset.from_dict({"image": [image], "caption": ["a yak"], "label": [1]}, features=features)
    datasets.DatasetDict({"train": part, "valid": part}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_data_set_on_disk(saved: Path, make_picture, good) -> None:
    assert hub.sniff(saved)
    assert hub.label_names(saved) == ["cat", "yak"]
    rows = good(hub.read(saved))
    assert [(row.split, row.texts, row.label, row.image) for row in rows] == [
        ("train", ("a yak",), 1, make_picture(1)),
        ("validation", ("a yak",), 1, make_picture(1)),
    ]
    quick = good(hub.read(saved, pictures=False))
    assert [row.image for row in quick] == [None, None]
    assert [(row.key, row.spare_key) for row in quick] == [(row.key, row.spare_key) for row in rows]


def test_one_split_on_disk(saved: Path, good) -> None:
    assert hub.sniff(saved / "train")
    assert [row.split for row in good(hub.read(saved / "train"))] == ["train"]


def test_without_a_network_the_error_says_what_to_do() -> None:
    with pytest.raises(
        DataError, match=r"No data set of that name could be had from the Hugging Face hub .*save_to_disk"
    ):
        list(hub.read(Path("someone/flickr8k-of-nowhere")))


def test_a_damaged_data_set_is_told(saved: Path) -> None:
    (saved / "train" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be loaded"):
        list(hub.read(saved))


@pytest.mark.parametrize(
    ("source", "may"),
    [
        ("mnist", True),
        ("user/data", True),
        ("user/data:config", True),
        ("./data", False),
        ("/a/b", False),
        ("a.csv", False),
    ],
)
def test_which_words_may_be_names_on_the_hub(source: str, may: bool) -> None:
    assert hub.may_be_hub_name(source) is may
