"""`diptych regions` on old files and stores: export, import, compare and show, and what is damaged in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diptych.cli.tables import with_regions
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import open_table

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Regions of three pictures, with named classes."""
    spec = RegionSpec(
        detector="drawn", detector_hash="d", rule="all", feature_kind="none", feature_width=4,
        classes=("dog", "cat", "bird", "fish", "cow"), box_kind="proposal",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with RegionWriter(tmp_path / "store", spec) as writer:
        for number in range(3):
            low = rng.integers(0, 20, (6, 2))
            regions = Regions(
                height_px=50,
                width_px=60,
                boxes=np.concatenate([low, low + rng.integers(5, 25, (6, 2))], axis=1).astype(np.float32),
                features=rng.random((6, 4), np.float32),
                scores=np.linspace(0.9, 0.4, 6, dtype=np.float32),
                class_ids=np.tile(np.arange(5, dtype=np.int32), (6, 1)),
                class_probs=np.tile(np.array([0.5, 0.2, 0.1, 0.1, 0.05], np.float32), (6, 1)),
            )
            writer.add(f"k{number}", regions)
    return tmp_path / "store"


@pytest.mark.parametrize("form", ["butd-tsv", "lxmert-tsv", "oscar-tsv"])
def test_exported_and_imported_again_they_are_the_same(store: Path, run: Command, tmp_path: Path, form: str) -> None:
    code, told, said = run("export", store, tmp_path / "old", "--to", form)
    assert code == 0 and f"({form}, 3 pictures)" in told, said
    left = {"butd-tsv": "classes, scores", "oscar-tsv": "classes behind the likeliest"}
    assert (
        f"Left out, since {form} does not hold them: {left.get(form, 'classes behind the likeliest, scores')}" in told
    )
    assert told.splitlines()[-1] == f"Next: diptych regions compare {tmp_path / 'old'} {store}"
    code, told, said = run("import", tmp_path / "old", tmp_path / "again", "--json", tmp_path / "n.json")
    assert code == 0, said
    assert json.loads((tmp_path / "n.json").read_text())["pictures"] == 3
    code, told, said = run("compare", tmp_path / "again", store, "--json", tmp_path / "c.json")
    assert code == 0 and "100.0 %" in told, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["missing"]) == (3, 0)
    assert numbers["mean_iou"] == pytest.approx(1, abs=1e-4) and numbers["mean_cosine"] == pytest.approx(1, abs=1e-4)
    before, after = open_region_table(store).regions("k1"), open_region_table(tmp_path / "again").regions("k1")
    np.testing.assert_array_equal(before.features, after.features)


def test_old_files_are_shown_in_place(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "old", "--to", "oscar-tsv")[0] == 0
    code, told, said = run("show", tmp_path / "old")
    assert code == 0, said
    assert "drawn" in told and "dog (18)" in told


def test_a_damaged_row_ends_neither_show_nor_compare(store: Path, run: Command, tmp_path: Path) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0
    rows = [row.split("\t") for row in old.read_text().splitlines()]
    rows[1][4] = rows[1][4][:-8]
    old.write_text("".join("\t".join(row) + "\n" for row in rows))
    code, told, said = run("show", old, "--json", tmp_path / "s.json")
    assert code == 0 and "1 of 3 pictures looked at" in told and "k1" in told and "bytes; expected" in told, said
    assert list(json.loads((tmp_path / "s.json").read_text())["damaged"]) == ["k1"]
    code, told, said = run("compare", old, store, "--json", tmp_path / "c.json")
    assert code == 0 and "Damaged rows" in told and "bytes; expected" in told, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["damaged"], list(numbers["damage"])) == (2, 1, ["k1"])


def test_a_row_without_a_key_of_its_own_is_said_by_every_command(
    store: Path, scenes: Path, run: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0
    old.write_bytes(old.read_bytes().replace(b"k1\t", b"caf\xe9\t"))
    note = f"Note: 1 row is left out {old}, row 2, since its key is no UTF-8 text."
    for words in (
        ["show", old],
        ["import", old, tmp_path / "in"],
        ["export", old, tmp_path / "out", "--to", "butd-tsv"],
    ):
        code, told, said = run(*words)
        assert code == 0 and note in said.replace("\n", " "), said
        assert "its key is no UTF-8 text" in told
    for listed in (tmp_path / "in" / "rejects.jsonl", tmp_path / "out.rejects.jsonl"):
        assert json.loads(listed.read_text())["key"] == "caf\\xe9"
    code, _, said = run("compare", old, store)
    assert code == 0 and note in said.replace("\n", " ")
    with_regions(open_table(scenes), [old])
    assert note in capfd.readouterr().err.replace("\n", " ")


def test_a_refused_export_leaves_nothing_in_the_way_of_the_one_it_advises(
    store: Path, run: Command, tmp_path: Path
) -> None:
    old = tmp_path / "old.tsv"
    assert run("export", store, old, "--to", "butd-tsv")[0] == 0  # without classes
    code, told, said = run("export", old, tmp_path / "out", "--to", "oscar-tsv")
    assert code == 1 and told == "" and "no classes, which oscar-tsv holds; write butd-tsv or uniter-npz" in said
    assert not list(tmp_path.glob("out*"))
    code, told, said = run("export", old, tmp_path / "out", "--to", "uniter-npz")
    assert code == 0 and f"x1 and y1 are where a box ends, as {tmp_path / 'out.regions.json'} says" in told, said


def test_a_folder_of_npz_is_compared_with_the_store_it_is_of(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "npz", "--to", "uniter-npz")[0] == 0
    code, _, said = run("compare", tmp_path / "npz", store, "--json", tmp_path / "c.json")
    assert code == 0, said
    numbers = json.loads((tmp_path / "c.json").read_text())
    assert (numbers["pictures"], numbers["missing"], numbers["keys"]) == (3, 0, "name")
    code, _, said = run("compare", tmp_path / "npz", store, "--keys", "same")
    assert code == 1 and "like 'k0.npz', 'k1.npz', 'k2.npz'; of the second like 'k0', 'k1', 'k2'" in said


def test_names_of_old_files_are_given_and_are_not_for_a_store(store: Path, run: Command, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "old.tsv", "--to", "lxmert-tsv")[0] == 0
    (tmp_path / "old.tsv.regions.json").unlink()
    names = tmp_path / "names.txt"
    names.write_text("Hund,dog\nKatze\nVogel\nFisch\nKuh\n")
    code, told, said = run("show", tmp_path / "old.tsv", "--classes", names)
    assert code == 0 and "hund (18)" in told, said
    for verb in (["show", store], ["export", store, tmp_path / "x", "--to", "butd-tsv"], ["import", store, "x"]):
        code, told, said = run(*verb, "--classes", names)
        assert code == 2 and told == "" and "is a store, which knows the names of its classes" in said
        code, told, said = run(*verb, "--labels", names)
        assert code == 2 and "--labels is for Oscar's pairs of files, and" in said and "is diptych" in said
    code, _, said = run("show", tmp_path / "old.tsv", "--labels", names)
    assert code == 2 and "is butd-tsv; leave it out" in said
