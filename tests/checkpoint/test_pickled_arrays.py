"""Pickles of numpy arrays: numbers come out, everything else ends the reading before it is run."""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
import torch

from diptych.checkpoint.pickled_arrays import read_pickled_arrays
from diptych.errors import WeightsError

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "by_columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "half": np.array([0.5, -2.0], dtype=np.float16),
    "count": np.array(7),
    "nothing": np.zeros((0, 4), dtype=np.float32),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "wrap", [dict, OrderedDict, lambda arrays: {"model": arrays, "__author__": "somebody", "n": 1}]
)
def test_arrays_of_every_protocol_come_out_as_they_are(protocol, wrap, tmp_path):
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(wrap(ARRAYS), protocol=protocol))
    found = read_pickled_arrays(file)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert torch.equal(found[name], torch.from_numpy(array)), name
        assert found[name].dtype == torch.from_numpy(array).dtype


def test_names_of_old_numpy_are_known(tmp_path):
    content = pickle.dumps(ARRAYS, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in content
    (tmp_path / "old.pkl").write_bytes(content)
    assert torch.equal(read_pickled_arrays(tmp_path / "old.pkl")["half"], torch.tensor([0.5, -2.0]).half())


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file was run')",))


class LikeAnArray:
    """Asks numpy's own names for something else."""

    def __reduce__(self):
        return (np.dtype, ("O",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Malicious()),
        pickle.dumps({"a": ARRAYS["half"], "b": Malicious()}),
        pickle.dumps({"a": LikeAnArray()}),
        pickle.dumps({"a": np.array([Malicious()], dtype=object)}),
        pickle.dumps({"a": np.array([None, "text"], dtype=object)}),
        pickle.dumps({"a": np.array(["text"])}),
        pickle.dumps({"a": np.zeros(2, dtype=[("x", "f4")])}),
        pickle.dumps({"a": np.zeros(2, dtype=">f4")}),
        pickle.dumps({"a": torch.zeros(2)}),
        pickle.dumps({"a": [1.0, 2.0]}),
        pickle.dumps([ARRAYS["half"]]),
        pickle.dumps(ARRAYS)[:-20],
        b"",
        b"\x80\x02cos\nsystem\n(S'echo'\ntR.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
    ],
    ids=lambda content: f"{len(content)} bytes",  # a storage's key in the bytes is another in every process
)
def test_everything_else_is_refused(content, tmp_path):
    file = tmp_path / "weights.pkl"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pkl"):
        read_pickled_arrays(file)


def test_a_shape_that_its_bytes_do_not_fill_is_refused(tmp_path):
    content = pickletools.optimize(pickle.dumps({"a": np.zeros((5, 3), dtype=np.float32)}, protocol=2))
    assert content.count(b"K\x05K\x03") == 1
    (tmp_path / "a.pkl").write_bytes(content.replace(b"K\x05K\x03", b"K\x7fK\x7f"))
    with pytest.raises(WeightsError, match="no readable pickle"):
        read_pickled_arrays(tmp_path / "a.pkl")
