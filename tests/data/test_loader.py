"""The loader is a pure function of (seed, epoch, position): processes, start and faults change nothing else."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from diptych.data import loader
from diptych.data.batch import Batch, ImagePart, Targets, TextPart, pad
from diptych.data.loader import LoadedBatch, evaluation_batches, load_batches
from diptych.data.sample import Item, Rng, Sample, hash64
from diptych.data.sampler import Order, spread_rows
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.objectives.objective import OwnRow

NUM_ROWS = 23


class ByteInputs:
    """Pictures of four bytes, texts as character codes; a picture of no bytes is bad."""

    columns = ()

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        if not sample.image:
            raise DataError("the picture is empty")
        assert isinstance(sample.image, bytes)
        text = sample.texts[0 if rng is None else int(rng.integers(len(sample.texts)))]
        pixels = torch.frombuffer(bytearray(sample.image), dtype=torch.uint8).reshape(1, 2, 2).expand(3, 2, 2)
        return Item(
            key=sample.key, group=hash64(sample.group), pixels=pixels, text_ids=torch.tensor([ord(c) for c in text])
        )

    def collate(self, items: Sequence[Item]) -> Batch:
        ids, mask = pad([item.text_ids for item in items if item.text_ids is not None], value=0)
        pixels = torch.stack([item.pixels for item in items if item.pixels is not None])
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            text=TextPart(ids=ids, mask=mask),
            image=ImagePart(pixels=pixels),
        )

    def save(self, folder: Path) -> None:
        pass


class PartnerDraw(OwnRow):
    """Puts the first letter of another row before the text, and draws a number."""

    name = "partner"

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        return (epoch % num_others,)

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        (partner,) = partners
        assert partner.text_ids is not None and item.text_ids is not None
        drawn = torch.tensor(int(rng.integers(1000)))
        return replace(item, text_ids=torch.cat([partner.text_ids[:1], item.text_ids])), {"drawn": drawn}


class NoDraw(OwnRow):
    """As the contrastive objective: nothing is drawn."""

    name = "none"

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        return item, {}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return _table(tmp_path_factory.mktemp("loader") / "table", bad=())


def _table(out: Path, bad: Sequence[int]) -> Rows:
    with TableWriter(out, rows_per_shard=7) as writer:
        for i in range(NUM_ROWS):
            image = b"" if i in bad else bytes([i, 1, 2, 3])
            writer.add("train", key=f"key{i}", image=image, texts=[f"{i} first", f"{i}th", "third text"])
    return open_table(out).split("train")


def _order(**changes: int) -> Order:
    return replace(Order(num_rows=NUM_ROWS, batch=5, seed=3), **changes)


def _same(left: LoadedBatch, right: LoadedBatch) -> bool:
    a, b = left.batch, right.batch
    if (left.step, left.epoch, left.rejects) != (right.step, right.epoch, right.rejects):
        return False
    if a is None or b is None or a.text is None or b.text is None or a.image is None or b.image is None:
        return a is b
    pairs = [(a.text.ids, b.text.ids), (a.text.mask, b.text.mask), (a.image.pixels, b.image.pixels), (a.group, b.group)]
    pairs += [(left.targets[name], right.targets[name]) for name in left.targets]
    return a.keys == b.keys and all(torch.equal(x, y) for x, y in pairs)


def _all(rows: Rows, **arguments: object) -> list[LoadedBatch]:
    settings = {"order": _order(), "start": 0, "stop": 9, "draw": PartnerDraw(), "workers": 0} | arguments
    return list(load_batches(rows, ByteInputs(), settings.pop("order"), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "start_method"), [(1, "fork"), (2, "fork")])
def test_worker_count_and_start_method_change_no_batch(rows: Rows, workers: int, start_method: str) -> None:
    expected = _all(rows)
    found = _all(rows, workers=workers, start_method=start_method)
    assert len(found) == 9
    assert all(_same(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the child imports this file by its name
    expected = _all(rows)
    found = _all(rows, workers=2, start_method="spawn")
    assert all(_same(a, b) for a, b in zip(expected, found, strict=True))


def test_a_start_in_the_middle_is_the_tail_of_a_full_pass(rows: Rows) -> None:
    tail = _all(rows, start=6)
    assert [loaded.step for loaded in tail] == [6, 7, 8]
    assert all(_same(a, b) for a, b in zip(_all(rows)[6:], tail, strict=True))


def test_ranks_share_the_global_batch(rows: Rows) -> None:
    whole = _all(rows)
    parts = [_all(rows, order=_order(rank=rank, world_size=2)) for rank in range(2)]
    for step, loaded in enumerate(whole):
        keys = [key for part in parts for key in _keys(part[step])]
        assert tuple(keys) == _keys(loaded)


def _keys(loaded: LoadedBatch) -> tuple[str, ...]:
    assert loaded.batch is not None
    return loaded.batch.keys


def test_texts_and_draws_differ_between_epochs(rows: Rows) -> None:
    drawn = {}
    for loaded in _all(rows, stop=8):
        for key, number in zip(_keys(loaded), loaded.targets["drawn"].tolist(), strict=True):
            drawn.setdefault(key, []).append((loaded.epoch, number))
    twice = [numbers for numbers in drawn.values() if len(numbers) == 2]
    assert len(twice) > 10
    assert sum(first[1] == second[1] for first, second in twice) <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_stands_still(rows: Rows, workers: int) -> None:
    before = torch.get_rng_state()
    _all(rows, workers=workers)
    assert torch.equal(before, torch.get_rng_state())


def test_a_bad_row_shrinks_its_batch_and_is_reported(tmp_path: Path) -> None:
    good, bad = _table(tmp_path / "good", bad=()), _table(tmp_path / "bad", bad=(4,))
    for whole, loaded in zip(_all(good, draw=NoDraw()), _all(bad, draw=NoDraw()), strict=True):
        assert _keys(loaded) == tuple(key for key in _keys(whole) if key != "key4")
        assert [reject.key for reject in loaded.rejects] == ["key4"] * ("key4" in _keys(whole))
        assert all("empty" in reject.reason for reject in loaded.rejects)


def test_known_bad_rows_are_left_out_without_another_report(tmp_path: Path) -> None:
    bad = _table(tmp_path / "bad", bad=(4,))
    first = _all(bad, draw=NoDraw())
    again = _all(bad, draw=NoDraw(), bad_rows={4})
    assert [_keys(loaded) for loaded in first] == [_keys(loaded) for loaded in again]
    assert not any(loaded.rejects for loaded in again)


def test_a_bad_partner_drops_the_row_and_is_named(tmp_path: Path) -> None:
    bad = _table(tmp_path / "bad", bad=(4,))
    rejected = [reject.key for loaded in _all(bad, stop=4) for reject in loaded.rejects]
    assert set(rejected) == {"key4"}


class ParticularDraw(NoDraw):
    """Has no use for one row."""

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        if item.key == "key4":
            raise DataError("key4 says nothing")
        return item, {}


def test_a_row_that_nothing_can_be_asked_of_is_left_out(rows: Rows) -> None:
    found = _all(rows, draw=ParticularDraw())
    assert {(reject.key, reject.reason) for one in found for reject in one.rejects} == {("key4", "key4 says nothing")}
    assert not any("key4" in one.batch.keys for one in found if one.batch is not None)


def test_a_batch_of_bad_rows_only_is_a_step_without_a_batch(tmp_path: Path) -> None:
    bad = _table(tmp_path / "bad", bad=range(NUM_ROWS))
    for workers in (0, 1):
        loaded = _all(bad, draw=NoDraw(), workers=workers)
        assert [one.batch for one in loaded] == [None] * 9
        assert [len(one.rejects) for one in loaded] == [5] * 9


def test_evaluation_goes_through_every_row_in_order(tmp_path: Path) -> None:
    rows = _table(tmp_path / "bad", bad=(4,))
    loaded = list(evaluation_batches(rows, ByteInputs(), batch=9, workers=0))
    assert [key for one in loaded for key in _keys(one)] == [f"key{i}" for i in range(NUM_ROWS) if i != 4]
    assert [len(_keys(one)) for one in loaded] == [8, 9, 5]
    text = loaded[0].batch.text if loaded[0].batch is not None else None
    assert text is not None and "".join(map(chr, text.ids[0].tolist())) == "0 first"


def test_a_limited_evaluation_is_spread_over_the_table(rows: Rows) -> None:
    loaded = list(evaluation_batches(rows, ByteInputs(), batch=4, limit=10, draw=PartnerDraw(), workers=0))
    expected = list(spread_rows(NUM_ROWS, 10))
    assert [key for one in loaded for key in _keys(one)] == [f"key{i}" for i in expected]
    assert expected[-1] > 18 and [len(_keys(one)) for one in loaded] == [4, 4, 2]


class OwnError(Exception):
    """Cannot be made again from its message, which is how errors are pickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class FailingInputs(ByteInputs):
    """Raises at one row."""

    error: Exception

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        if sample.key == "key7":
            raise self.error
        return super().item(sample, rng)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("colour"), KeyError("colour")),
        (RuntimeError("a DataLoader worker is a kind of process"), None),
        (OwnError(1, 2), RuntimeError("OwnError: 1 and 2")),
    ],
)
def test_an_error_in_a_worker_arrives_as_it_is(rows: Rows, error: Exception, expected: Exception | None) -> None:
    expected = error if expected is None else expected
    with pytest.raises(type(expected)) as raised:
        list(evaluation_batches(rows, FailingInputs(error), batch=4, workers=1))
    assert str(raised.value) == str(expected)
    assert "in item" in raised.value.__notes__[0]  # where it was raised


class EndingInputs(ByteInputs):
    """Ends its process, as the kernel does when memory is short."""

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        os._exit(9)


def test_workers_that_keep_dying_end_it_in_words(rows: Rows) -> None:
    told: list[str] = []
    with pytest.raises(DataError, match=r"6 processes .* lost over one batch.*exit code 9.*fewer inputs.workers"):
        list(evaluation_batches(rows, EndingInputs(), batch=4, workers=1, tell=told.append))
    assert told == ["A process that decodes pictures ended by itself (exit code 9) and was replaced."] * 5


def test_what_evaluation_draws_is_the_same_every_time(rows: Rows) -> None:
    first, again = (list(evaluation_batches(rows, ByteInputs(), batch=4, draw=PartnerDraw(), workers=0)) for _ in "ab")
    assert all(_same(a, b) for a, b in zip(first, again, strict=True))
    assert len({number for loaded in first for number in loaded.targets["drawn"].tolist()}) > 10


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"), [(1, 1, 1), (2, 1, 1), (2, 2, 1), (8, 1, 4), (8, 2, 2), (64, 1, 8), (64, 8, 4)]
)
def test_by_default_there_is_always_a_process_that_is_watched(
    cores: int, ranks: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert loader.default_workers() == expected


def test_leaving_early_ends_the_workers(rows: Rows) -> None:
    batches = load_batches(rows, ByteInputs(), _order(), start=0, stop=1000, draw=NoDraw(), workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) >= 2
    del batches
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_leave_no_process(rows: Rows, sent: signal.Signals) -> None:
    """Ctrl-C in a terminal reaches every process: only the parent reacts, and its workers end with it."""
    script = """if True:
        import pickle, signal, sys
        sys.path.insert(0, sys.argv[1])
        from diptych.data.loader import load_batches
        from diptych.data.sampler import Order
        from tests.data.test_loader import ByteInputs, NoDraw
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
        rows = pickle.loads(bytes.fromhex(sys.argv[2]))
        order = Order(num_rows=len(rows), batch=5, seed=0)
        try:
            for loaded in load_batches(rows, ByteInputs(), order, start=0, stop=10**9, draw=NoDraw(), workers=2):
                if loaded.step == 20:
                    print("ready", flush=True)
                if stopped:  # as a loop that still ends its step and writes a checkpoint
                    stopped.append(True)
                if len(stopped) > 50:
                    break
        except KeyboardInterrupt:
            pass
        import multiprocessing
        print("left", len(multiprocessing.active_children()), flush=True)
    """
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", script, root, pickle.dumps(rows).hex()],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, sent)
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "left 0\n")
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
