"""Our store of regions: there and back, checked on the way in, mapped on the way out."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from diptych.data.region_checks import difference
from diptych.data.region_rows import likeliest
from diptych.data.region_store import RegionTable, RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

SPEC = RegionSpec(
    detector="toy",
    detector_hash="ab" * 32,
    rule="first 3",
    feature_kind="drawn",
    feature_width=5,
    classes=("cat", "dog", "bird", "tree"),
    attributes=("red", "small"),
    box_kind="proposal",
)


def toy(num: int = 3, seed: int = 0) -> Regions:
    """Regions of a picture of 60 x 40, of all parts."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (num, 2))
    softmax = rng.dirichlet(np.ones(5), num).astype(np.float32)
    ids, probs = likeliest(softmax[:, 1:], 4)
    return Regions(
        height_px=40,
        width_px=60,
        boxes=np.concatenate([corner, corner + rng.uniform(1, 20, (num, 2))], axis=1).astype(np.float32),
        features=rng.normal(size=(num, 5)).astype(np.float32),
        scores=np.sort(rng.random(num))[::-1].astype(np.float32),
        class_ids=ids,
        class_probs=probs,
        soft_labels=softmax,
        attribute_ids=np.tile(np.array([[1, 0]], dtype=np.int32), (num, 1)),
        attribute_probs=np.tile(np.array([[0.75, 0.25]], dtype=np.float32), (num, 1)),
    )


def write(out: Path, pictures: dict[str, Regions], spec: RegionSpec = SPEC, **settings: object) -> RegionTable:
    with RegionWriter(out, spec, pictures_per_shard=4, **settings) as writer:  # type: ignore[arg-type]
        for key, regions in pictures.items():
            writer.add(key, regions)
    return open_region_table(out)


def test_regions_come_back_as_they_went_in(tmp_path):
    pictures = {f"picture {i}": toy(num=i, seed=i) for i in range(11)}  # the first has none
    store = write(tmp_path / "r", pictures, num_classes_kept=2, soft_labels=True)
    assert len(store) == 11 and list(store.keys()) == list(pictures)
    assert store.spec == SPEC and "picture 9" in store and "picture 11" not in store
    for key, regions in pictures.items():
        found = store.regions(key)
        assert (found.height_px, found.width_px, len(found)) == (40, 60, len(regions))
        np.testing.assert_array_equal(found.boxes, regions.boxes)
        np.testing.assert_array_equal(found.features, regions.features.astype(np.float16))
        np.testing.assert_array_equal(found.scores, regions.scores)
        np.testing.assert_array_equal(found.class_ids, regions.class_ids[:, :2])
        np.testing.assert_array_equal(found.class_probs, regions.class_probs[:, :2].astype(np.float16))
        np.testing.assert_array_equal(found.soft_labels, regions.soft_labels.astype(np.float16))
        np.testing.assert_array_equal(found.attribute_ids, regions.attribute_ids)
        np.testing.assert_array_equal(found.attribute_probs, regions.attribute_probs)


def test_what_is_read_is_a_view_of_the_mapped_file(tmp_path):
    store = write(tmp_path / "r", {f"{i}": toy(seed=i) for i in range(6)})
    before = pa.total_allocated_bytes()
    found = store.regions("4").features
    assert not found.flags.owndata and not found.flags.writeable and found.dtype == np.float16
    assert pa.total_allocated_bytes() == before
    assert found.base is store.regions("5").features.base  # of one record batch


@given(
    features=arrays.arrays(
        np.float16, st.tuples(st.integers(0, 4), st.just(5)), elements=st.floats(-60000, 60000, width=16)
    )
)
def test_float16_features_survive_bit_for_bit(features, tmp_path_factory):
    regions = replace(toy(len(features)), features=features)
    store = write(tmp_path_factory.mktemp("float16") / "r", {"a": toy(2), "b": regions})
    assert store.regions("b").features.tobytes() == features.tobytes()


def test_parts_that_a_detector_does_not_give_are_none(tmp_path):
    bare = Regions(height_px=None, width_px=None, boxes=toy().boxes, features=toy().features, scores=toy().scores)
    spec = replace(SPEC, classes=(), attributes=())
    store = write(tmp_path / "r", {"a": bare}, spec, num_classes_kept=0, num_attributes_kept=0)
    found = store.regions("a")
    assert (found.height_px, found.width_px) == (None, None)
    assert found.class_ids is found.class_probs is found.soft_labels is found.attribute_ids is None
    mixed = write(tmp_path / "m", {"a": bare, "b": toy()})
    assert mixed.regions("a").class_ids is None and mixed.regions("b").class_ids is not None


def test_the_likeliest_classes_are_taken_from_soft_labels(tmp_path):
    store = write(tmp_path / "r", {"a": replace(toy(), class_ids=None, class_probs=None)}, num_classes_kept=2)
    np.testing.assert_array_equal(store.regions("a").class_ids, toy().class_ids[:, :2])
    assert store.regions("a").soft_labels is None


def test_the_likeliest_are_in_order_and_ties_go_to_the_lower_id():
    ids, probs = likeliest(np.array([[0.1, 0.4, 0.1, 0.4], [0.2, 0.3, 0.5, 0.0]]), 3)
    assert ids.tolist() == [[1, 3, 0], [2, 1, 0]]
    assert probs.tolist() == [[0.4, 0.4, 0.1], [0.5, 0.3, 0.2]]
    assert likeliest(np.zeros((2, 3)), 9)[0].tolist() == [[0, 1, 2]] * 2


def _with(part: str, row: int, column: int, value: float) -> Regions:
    changed = getattr(toy(), part).copy()
    changed[row, column] = value
    return replace(toy(), **{part: changed})


BAD = {
    "features holds NaN": _with("features", 1, 2, np.nan),
    "features holds NaN or inf": _with("features", 1, 2, np.inf),
    "features reaches from .* to 70000; expected -65504 to 65504": _with("features", 0, 0, 7e4),
    "boxes holds NaN": _with("boxes", 2, 2, np.nan),
    r"box 1 \(.*\) is empty": _with("boxes", 1, 2, -0.5),
    r"box 2 \(.*\) is outside of the picture, which is 60 x 40": _with("boxes", 2, 3, 41.5),
    "class_probs reaches from .* to 1.5": _with("class_probs", 0, 0, 1.5),
    "class_ids reaches from .* to 4; the vocabulary has 4 names": _with("class_ids", 1, 1, 4),
    "attribute_ids reaches from -1": _with("attribute_ids", 0, 0, -1),
    "3 boxes and 2 rows of scores": replace(toy(), scores=toy().scores[:2]),
    "features has 4 numbers a region; expected 5": replace(toy(), features=toy().features[:, :4]),
    "soft_labels has 4 numbers a region; expected 5": replace(toy(), soft_labels=toy().soft_labels[:, :4]),
    "class_probs has 3 numbers a region; expected 4": replace(toy(), class_probs=toy().class_probs[:, :3]),
    "come together, and one is missing": replace(toy(), class_probs=None),
    r"scores has the shape \(3, 1\)": replace(toy(), scores=toy().scores[:, None]),
    "have 1 class_ids each and the store keeps 4": replace(
        toy(), class_ids=toy().class_ids[:, :1], class_probs=toy().class_probs[:, :1]
    ),
}


@pytest.mark.parametrize("why", BAD)
def test_what_is_wrong_is_told_and_not_written(why, tmp_path):
    with RegionWriter(tmp_path / "r", SPEC) as writer:
        writer.add("good", toy())
        with pytest.raises(DataError, match=f"'bad'.*{why}|bad.*: {why}|{why}.*"):
            writer.add("bad", BAD[why])
        assert "bad" not in writer.written_keys()
    assert list(open_region_table(tmp_path / "r").keys()) == ["good"]


def test_a_box_of_one_pixel_is_one_where_the_last_pixel_is_inside(tmp_path):
    one = replace(toy(1), boxes=np.array([[7, 8, 7, 8]], dtype=np.float32))
    store = write(tmp_path / "r", {"a": one}, replace(SPEC, plus_one=True))
    assert store.regions("a").boxes.tolist() == [[7, 8, 7, 8]]
    with pytest.raises(DataError, match="is empty"):
        write(tmp_path / "s", {"a": one})


def test_a_key_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="no regions of 'b'"):
        write(tmp_path / "r", {"a": toy()}).regions("b")


def test_soft_labels_that_do_not_come_are_told(tmp_path):
    with pytest.raises(DataError, match="keeps 5 soft labels a region, and the regions of 'a' have none"):
        write(tmp_path / "r", {"a": replace(toy(), soft_labels=None)}, soft_labels=True)


def test_other_tables_are_no_stores(tmp_path):
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="a", texts=["a"])
    with pytest.raises(DataError, match=r"no store of regions; make one with `diptych regions extract"):
        open_region_table(tmp_path / "t")


def test_a_spec_of_a_newer_diptych_is_refused(tmp_path):
    write(tmp_path / "r", {"a": toy()})
    with TableWriter(tmp_path / "t", kind="store", meta={"regions": {"classes": [], "attributes": [], "x": 1}}) as new:
        new.add("regions", key="a")
    with pytest.raises(DataError, match=r"'x'.*pip install --upgrade diptych"):
        open_region_table(tmp_path / "t")


def test_specs_tell_in_what_they_differ():
    assert difference(SPEC, SPEC) == ""
    other = replace(SPEC, rule="first 9", classes=("cat", "dog"), attributes=("red", "large"))
    told = difference(SPEC, other)
    assert told == ("rule: 'first 3' and 'first 9'; classes: 4 names and 2; attributes: name 1 is 'small' and 'large'")


def test_a_spawned_process_maps_the_files_itself(tmp_path):
    store = write(tmp_path / "r", {f"{i}": toy(seed=i) for i in range(6)})
    assert len(pickle.dumps(store)) < 3000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(store.regions, ("5",))
    assert found.features.tobytes() == store.regions("5").features.tobytes()


KILLED = """
import sys
import tracemalloc
from pathlib import Path
from test_region_store import SPEC, toy
from diptych.data.region_store import RegionWriter
with RegionWriter(Path(sys.argv[1]), SPEC, pictures_per_shard=4, resume=True) as writer:
    for i in range(1000):
        writer.add(str(i), toy(seed=i))
        print(i, flush=True)
"""


def test_a_kill_costs_one_shard_at_most(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "r")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "30\n":
            pass
        process.kill()
        told = 30 + len(process.stdout.readlines())
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "r").exists()
    with RegionWriter(tmp_path / "r", SPEC, pictures_per_shard=4, resume=True) as writer:
        kept = len(writer.written_keys())
        assert told + 1 - 4 <= kept <= told + 2 and kept % 4 == 0
        for i in range(kept, 40):
            writer.add(str(i), toy(seed=i))
    found = open_region_table(tmp_path / "r")
    whole = write(tmp_path / "whole", {str(i): toy(seed=i) for i in range(40)})
    assert found.fingerprint == whole.fingerprint


def test_another_spec_is_no_way_to_go_on(tmp_path):
    with pytest.raises(KeyboardInterrupt), RegionWriter(tmp_path / "r", SPEC) as writer:
        writer.add("a", toy())
        writer.end_shards()
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"proposal boxes.*window boxes"):
        RegionWriter(tmp_path / "r", replace(SPEC, box_kind="window"), resume=True)
    with pytest.raises(DataError, match="was begun with"):
        RegionWriter(tmp_path / "r", replace(SPEC, consumer="another"), resume=True)
    with pytest.raises(DataError, match=r"was begun with first 3, \w+ \(now first 9, \w+\); remove"):
        RegionWriter(tmp_path / "r", replace(SPEC, rule="first 9"), resume=True)
    with pytest.raises(DataError, match=r"with another width or type of features and \w+ \(now \w+\); remove"):
        RegionWriter(tmp_path / "r", replace(SPEC, feature_width=SPEC.feature_width + 1), resume=True)
    with pytest.raises(DataError, match=r"with class_ids, class_probs \(now without\); remove"):
        RegionWriter(tmp_path / "r", SPEC, num_classes_kept=0, resume=True)
    with pytest.raises(DataError, match=r"with no soft_labels \(now with\); remove"):
        RegionWriter(tmp_path / "r", SPEC, soft_labels=True, resume=True)


def test_a_store_that_was_cut_short_is_told_when_it_is_read(tmp_path):
    store = write(tmp_path / "r", {f"{i}": toy(seed=i) for i in range(6)})
    file = tmp_path / "r" / "regions-00000.arrow"
    assert store.regions("1").features.size
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 1)
    with pytest.raises(DataError, match="is damaged"):
        store.regions("1")


def test_the_vocabulary_travels_with_the_store(tmp_path):
    write(tmp_path / "r", {"a": toy()})
    told = json.loads((tmp_path / "r" / "table.json").read_text())
    assert told["meta"]["regions"]["classes"] == ["cat", "dog", "bird", "tree"]


def test_memory_of_reading_is_flat(tmp_path, monkeypatch):
    """Ten times the pictures, the same of Python's and Arrow's memory at once; shards that are open take 12 kB each."""
    monkeypatch.setattr("diptych.data.table.OPEN_SHARDS", 5)
    assert _peak(tmp_path / "many", 600) < _peak(tmp_path / "few", 60) + 100_000


def _peak(out: Path, num: int) -> int:
    wide = replace(SPEC, feature_width=500)
    one = replace(toy(), features=np.ones((3, 500), dtype=np.float16))
    store = write(out, {str(i): one for i in range(num)}, wide)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for i in range(0, num, 3):
        store.regions(str(i)).features.copy()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak + pa.total_allocated_bytes() - before
