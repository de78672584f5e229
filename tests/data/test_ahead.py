"""Reading ahead gives what reading gives, in the same order, and leaves no process behind."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from agl.data.ahead import ReadAhead, reading_ahead
from agl.data.reading.patches import PatchReader
from agl.errors import UserError

PARTS = [np.array(part) for part in ([3, 1], [0], [5, 5, 2], [4], [1, 0, 2, 3], [5])]


def picture_of(spots: np.ndarray) -> np.ndarray:
    """A reader that needs no file: every patch is filled with its spot's number."""
    return np.repeat(np.asarray(spots, dtype=np.uint8), 12).reshape(-1, 2, 2, 3)


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_parts_come_in_the_order_they_were_asked_for(workers: int) -> None:
    with reading_ahead(picture_of, workers) as ahead:
        for parts in (PARTS, PARTS[::-1], [], PARTS[:1]):  # the workers outlive a round
            found = list(ahead(parts))
            assert [part.tolist() for part in found] == [picture_of(part).tolist() for part in parts]
            assert all(part.dtype is torch.uint8 for part in found)


def test_no_random_number_is_drawn() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with reading_ahead(picture_of, 2) as ahead:
        list(ahead(PARTS))
        assert torch.equal(torch.rand(4), expected)


def test_a_round_within_a_round_takes_nothing_from_it() -> None:
    with reading_ahead(picture_of, 2) as ahead:
        for part, outer in zip(PARTS, ahead(PARTS), strict=True):
            assert [inner.tolist() for inner in ahead(PARTS[:2])] == [picture_of(p).tolist() for p in PARTS[:2]]
            assert outer.tolist() == picture_of(part).tolist()


def test_a_round_left_early_does_not_spoil_the_next() -> None:
    with reading_ahead(picture_of, 2) as ahead:
        for _ in ahead(PARTS):
            break
        assert [part.tolist() for part in ahead(PARTS[2:])] == [picture_of(part).tolist() for part in PARTS[2:]]


def failing(spots: np.ndarray) -> np.ndarray:
    if 4 in spots:
        raise UserError("expected a fourth patch, received none; copy it again")
    if 9 in spots:
        raise ZeroDivisionError("a bug")
    return picture_of(spots)


def test_an_error_is_raised_in_turn_and_is_one_sentence() -> None:
    seen = []
    with reading_ahead(failing, 2) as ahead:
        with pytest.raises(UserError) as caught:
            seen.extend(ahead(PARTS))  # a generator: what came before the error is kept
        assert str(caught.value) == "expected a fourth patch, received none; copy it again"
        with pytest.raises(ZeroDivisionError, match="in failing"):  # a bug of ours keeps its traceback
            list(ahead([np.array([9])]))
    assert len(seen) == 3


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, UserError])
def test_no_worker_is_left(end: type[BaseException] | None) -> None:
    before = children()

    def reading() -> None:
        with reading_ahead(picture_of, 2) as ahead:
            for _ in ahead(PARTS):
                assert children() - before
                if end is not None:
                    raise end

    if end is None:
        reading()
    else:
        with pytest.raises(end):
            reading()
    assert children() == before


def deadly(spots: np.ndarray) -> np.ndarray:
    if 4 in spots:
        os.kill(os.getpid(), signal.SIGKILL)
    return picture_of(spots)


def test_a_killed_worker_is_told_in_one_sentence() -> None:
    before = children()
    with pytest.raises(UserError, match=r"one was killed.*Lower training\.workers"), reading_ahead(deadly, 1) as ahead:
        list(ahead(PARTS))
    assert children() == before


def test_other_runtime_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="mine"), reading_ahead(picture_of, 1):
        raise RuntimeError("mine")


@pytest.fixture
def reader(tmp_path: Path) -> PatchReader:
    rng = np.random.default_rng(0)
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as h5:
            h5["img"] = rng.integers(0, 256, size=(6, 4, 4, 3), dtype=np.uint8)
    files = (tmp_path / "a.h5", tmp_path / "b.h5")
    return PatchReader(files, np.repeat([0, 1], 6), np.tile(np.arange(6), 2), (4, 4, 3))


def test_files_that_the_parent_has_open_are_opened_anew(reader: PatchReader) -> None:
    everything = reader.read(np.arange(12))
    parts = [np.random.default_rng(i).integers(12, size=5) for i in range(20)]
    with reading_ahead(reader.read, 2) as ahead:
        for part, found in zip(parts, ahead(parts), strict=True):
            assert np.array_equal(found.numpy(), everything[part])
            reader.read(part)  # the parent may go on with its own
    assert (
        pickle.loads(pickle.dumps(ReadAhead(reader.read, 1)._read))(parts[0]).tolist() == everything[parts[0]].tolist()
    )


ORPHANS = """
import fcntl, os, signal, sys
import numpy as np
from agl.data.ahead import ReadAhead
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
def read(spots):
    return np.zeros((1, 2, 2, 3), dtype=np.uint8)
for _ in ReadAhead(read, 2)([np.array([0])] * 100):
    print("reading", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked and inherit no lock")
def test_a_killed_parents_lock_is_free_at_once(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS, str(tmp_path / "lock")], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("reading\n", -signal.SIGKILL), done.stderr
    time.sleep(0.5)
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while a worker holds it


LATE = """
import fcntl, multiprocessing, os, signal, sys, time
from agl.data.ahead import _die_with_parent
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
def work(parent):
    while os.getppid() == parent:
        time.sleep(0.01)
    _die_with_parent(0)
    print("survived", flush=True)
    time.sleep(20)
multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked and inherit no lock")
def test_a_worker_that_starts_after_its_parent_was_killed_dies_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LATE, str(tmp_path / "lock")], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", -signal.SIGKILL), done.stderr
    time.sleep(0.5)
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
