"""An export that was killed, or stopped at a damaged row, and goes on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from diptych.data import region_exporting
from diptych.data.region_exporting import export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.rejects import read_rejects
from diptych.errors import DataError


@pytest.mark.parametrize("format_", ["butd-tsv", "oscar-tsv", "uniter-npz"])
def test_an_export_that_was_killed_goes_on_from_any_byte(format_, tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r")
    export_regions(store, tmp_path / "whole", format=format_)
    partial = tmp_path / "out.partial"
    main = tmp_path / "whole" if format_ == "butd-tsv" else sorted((tmp_path / "whole").iterdir())[-1]
    if format_ == "oscar-tsv":
        main = tmp_path / "whole" / "features.tsv"
    for size in range(0, main.stat().st_size, 97):
        if format_ == "butd-tsv":
            partial.write_bytes(main.read_bytes()[:size])
        else:
            shutil.copytree(tmp_path / "whole", partial)
            name = main.name if format_ == "oscar-tsv" else f".{main.name}.1.tmp"
            (partial / name).write_bytes(main.read_bytes()[:size])
        (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, format_)))
        export_regions(store, tmp_path / "out", format=format_)
        if format_ == "butd-tsv":
            assert (tmp_path / "out").read_bytes() == main.read_bytes()
            (tmp_path / "out").unlink()
        else:
            for file in (tmp_path / "whole").iterdir():
                if file.suffix != ".json":
                    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
            shutil.rmtree(tmp_path / "out")


def test_an_export_of_another_kind_is_not_gone_on_with(tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r")
    export_regions(store, tmp_path / "whole", format="butd-tsv")
    (tmp_path / "out.partial").write_bytes((tmp_path / "whole").read_bytes()[:500])
    (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, "butd-tsv")))
    with pytest.raises(DataError, match=r"another export \(format: butd-tsv there, lxmert-tsv here\); go on with that"):
        export_regions(store, tmp_path / "out", format="lxmert-tsv")
    named = toy_regions.replace_spec(toy_regions.store(tmp_path / "s"), rule="best")
    named.path = store.path
    with pytest.raises(DataError, match=r"\(rule: 'all' and 'best'\)"):
        export_regions(named, tmp_path / "out", format="butd-tsv")
    told = (tmp_path / "out.partial.json").read_text()
    (tmp_path / "out.partial.json").write_text(told[:20])
    with pytest.raises(DataError, match=r"\(nothing beside it says of what\).* or remove .*out\.partial to start"):
        export_regions(store, tmp_path / "out", format="butd-tsv")
    (tmp_path / "out.partial.json").write_text(told)
    export_regions(store, tmp_path / "out", format="butd-tsv")
    assert not (tmp_path / "out.partial.json").exists()


@pytest.mark.parametrize("format_", ["butd-tsv", "uniter-npz", "oscar-tsv"])
def test_an_export_goes_on_behind_a_damaged_row(format_, tmp_path, toy_regions):
    """Row 2 of 4 is damaged, the export is stopped behind row 3 and goes on; then the row is mended, and so again."""
    export_regions(toy_regions.store(tmp_path / "r"), tmp_path / "old", format="oscar-tsv")
    features = tmp_path / "old" / "features.tsv"
    whole = features.read_bytes()
    rows = whole.splitlines(keepends=True)
    features.write_bytes(rows[0] + rows[1][:-9] + b"\n" + b"".join(rows[2:]))
    keys = [row.split(b"\t")[0].decode() for row in rows]
    out, bad = tmp_path / "out", keys.pop(1)
    result = export_regions(open_regions(tmp_path / "old"), out, format=format_)
    assert (result.pictures, result.rejects) == (len(keys), 1) and list(result.reasons.values()) == [1]
    assert [reject.key for reject in read_rejects(tmp_path / "out.rejects.jsonl")] == [bad]
    suffix = ".npz" if format_ == "uniter-npz" else ""
    assert sorted(open_regions(out).keys()) == sorted(key + suffix for key in keys)

    partial = tmp_path / "out.partial"
    out.rename(partial)
    features.write_bytes(whole)
    store = open_regions(tmp_path / "old")
    (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, format_)))
    result = export_regions(store, out, format=format_)
    assert (result.pictures, result.rejects) == (len(rows), 0) and not (tmp_path / "out.rejects.jsonl").exists()
    found = open_regions(out)
    for key in (bad, *keys):
        np.testing.assert_array_equal(found.regions(key + suffix).features, store.regions(key).features)
