"""Old files of regions as their own writers made them, against what their readers found in them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.uniter_values import num_kept


@pytest.fixture(scope="module")
def stored(golden):
    return golden("detector")


def test_every_tsv_holds_what_was_written(stored):
    """In every column, bit for bit."""
    assert stored.facts["tsv"]
    for name, told in stored.facts["tsv"].items():
        store = open_regions(stored.folder / name)
        prefix = f"tsv{len(told['fields'])}"
        key_field = told["fields"][0]
        assert list(store.keys()) == [str(row[key_field]) for row in told["rows"]], name
        for number, row in enumerate(told["rows"]):
            found = store.regions(str(row[key_field]))
            sizes = (
                {row[field] for field in row if field.endswith("_w")},
                {row[field] for field in row if "_h" in field},
            )
            assert ({found.width_px}, {found.height_px}) == sizes, name
            assert len(found) == row["num_boxes"], name
            ours = {"boxes": found.boxes, "features": found.features}
            if found.class_ids is not None and found.attribute_ids is not None:
                ours |= {"objects_id": found.class_ids[:, 0], "objects_conf": found.scores}
                ours |= {"attrs_id": found.attribute_ids[:, 0], "attrs_conf": found.attribute_probs[:, 0]}
            expected = stored.names(f"{prefix}/{number}/")
            assert set(expected) == ours.keys(), name
            for field in expected:
                np.testing.assert_array_equal(ours[field], stored[f"{prefix}/{number}/{field}"].numpy(), err_msg=name)


def test_an_npz_of_uniter_holds_what_its_reader_kept(stored):
    files = sorted(stored.folder.glob("*.npz"))
    assert files and stored.facts["npz"]
    for file in files:
        store = open_regions(file)
        (key,) = store.keys()
        found = store.regions(key)
        for case in stored.facts["npz"].values():
            assert num_kept(found.scores, case["conf_th"], case["min_bb"], case["max_bb"]) == case["num_bb"]
        readers = {match[1] for name in stored.files if (match := re.fullmatch(r"(npz_reader_\w+)/features", name))}
        assert readers
        for reader in readers:
            kept = slice(len(stored[f"{reader}/conf"]))
            np.testing.assert_array_equal(found.features[kept], stored[f"{reader}/features"].numpy())
            np.testing.assert_array_equal(found.soft_labels[kept], stored[f"{reader}/soft_labels"].numpy())
            np.testing.assert_array_equal(found.boxes[kept], stored[f"{reader}/norm_bb"].numpy()[:, :4])
            np.testing.assert_array_equal(found.scores[kept], stored[f"{reader}/conf"].numpy()[:, 0])
