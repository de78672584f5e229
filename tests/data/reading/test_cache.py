"""The cache: complete or absent, whatever happens to the process, the disk or the files."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import socket
from contextlib import nullcontext

import numpy as np
import pytest

from agl.data.dataset import open_dataset
from agl.data.reading import cache, hashing
from agl.data.reading.growing import GrowingArray
from agl.errors import UserError


def imported(root, **options):
    """(dataset, slides imported for it)"""
    done: list[str] = []
    dataset = open_dataset(root, features="uni", progress=lambda what, *_: done.append(what), **options)
    return dataset, [what for what in done if what]


def same(a, b):
    assert a.key == b.key
    assert a.spots.equals(b.spots)
    assert (a.counts != b.counts).nnz == 0
    np.testing.assert_array_equal(a.features, b.features)


def contents(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (lambda f: os.truncate(f / "data.npy", 140), "data.npy has 140 bytes instead of"),
        (lambda f: flip(f / "features.npy"), "features.npy has changed"),
        (lambda f: (f / "genes.json").unlink(), "genes.json: No such file"),
        (lambda f: (f / "manifest.json").write_text("{"), "no readable manifest.json"),
        (lambda f: (f / "manifest.json").unlink(), "no readable manifest.json"),
    ],
)
def test_damage_is_seen_and_mended_with_a_word(task, caplog, break_it, word):
    root, _ = task()
    first, _ = imported(root)
    before = first.subset(np.arange(len(first)))  # a copy: the damaged files are mapped by `first`
    features = np.array(first.features)
    break_it(first.folder)
    with caplog.at_level(logging.WARNING, "agl.data"):
        second, slides = imported(root)
    assert slides == ["S1", "S2"]
    assert word in caplog.text
    assert "importing again" in caplog.text
    np.testing.assert_array_equal(second.features, features)
    assert (before.counts != second.counts).nnz == 0
    assert contents(second.folder.parent) == [second.folder.name]


def test_touched_but_whole_is_kept(task):
    first, _ = imported(task()[0])
    data = first.folder / "data.npy"
    recorded = data.stat().st_mtime_ns
    os.utime(data, ns=(1, 1))
    assert imported(task()[0])[1] == []
    assert data.stat().st_mtime_ns == recorded


def test_manifest_describes_every_file(task):
    dataset, _ = imported(task()[0])
    manifest = json.loads((dataset.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == set(contents(dataset.folder)) - {"manifest.json"}
    for name, entry in manifest["files"].items():
        assert hashing.sha256_of_file(dataset.folder / name) == entry["sha256"]
    assert (manifest["key"], manifest["about"]) == (dataset.folder.name, {"spots": 21, "genes": 6})


def _die_at_second_slide(root):
    def progress(what, done, total):
        if done == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    open_dataset(root, features="uni", progress=progress)


def test_killed_half_way_leaves_nothing_half_valid(task, private_cache):
    root, slides = task()
    process = multiprocessing.get_context("fork").Process(target=_die_at_second_slide, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (leftover,) = contents(private_cache / "datasets")
    assert leftover.endswith(".partial")
    dataset, done = imported(root)
    assert done == ["S1", "S2"]
    assert contents(private_cache / "datasets") == [dataset.folder.name]
    np.testing.assert_array_equal(dataset.features, np.concatenate([s.features for s in slides]))


def test_what_a_killed_import_left_goes_although_another_has_finished_it(task, private_cache):
    root, _ = task()
    dataset, _ = imported(root)
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    child.join()
    left = private_cache / "datasets" / f".{dataset.folder.name}.{socket.gethostname()}.{child.pid}.partial"
    left.mkdir()
    assert imported(root)[1] == []  # found whole, nothing is imported
    assert not left.exists()


def test_leftovers_of_living_processes_are_left_alone(task, private_cache):
    root, _ = task()
    imported(root)
    datasets = private_cache / "datasets"
    living = datasets / f".abc.{socket.gethostname()}.{os.getppid()}.partial"
    elsewhere = datasets / ".abc.other-host.1.partial"
    ancient = datasets / ".abc.other-host.2.partial"
    for folder in (living, elsewhere, ancient):
        folder.mkdir()
    os.utime(ancient, (0, 0))
    imported(root, min_counts=1)
    assert living.is_dir()
    assert elsewhere.is_dir()
    assert not ancient.exists()


def test_failure_leaves_nothing(task, private_cache, write_embeddings):
    root, slides = task()
    broken = slides[1].features.copy()
    broken[4, 1] = np.nan
    write_embeddings(root / "embeddings" / "uni" / "S2.h5", slides[1], values=broken)
    with pytest.raises(UserError, match="NaN"):
        imported(root)
    assert contents(private_cache / "datasets") == []


def test_full_disk_is_one_sentence_and_leaves_nothing(task, private_cache, monkeypatch):
    root, _ = task()
    append = GrowingArray.append

    def full(self, block):
        if self.path.name == "data.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, block)

    monkeypatch.setattr(GrowingArray, "append", full)
    with pytest.raises(UserError, match=r"could not \(No space left on device\); free some space or set AGL_CACHE"):
        imported(root)
    assert contents(private_cache / "datasets") == []


@pytest.mark.parametrize("locks", [True, False])
def test_processes_at_once(task, private_cache, monkeypatch, tmp_path, locks):
    root, slides = task()
    if not locks:
        monkeypatch.setattr(cache, "_lock", lambda path: nullcontext())
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()

    def work():
        barrier.wait()
        dataset, done = imported(root)
        results.put((len(done), np.array(dataset.features), dataset.library_size))

    processes = [context.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for _, features, library_size in found:
        np.testing.assert_array_equal(features, np.concatenate([s.features for s in slides]))
        np.testing.assert_array_equal(library_size, np.concatenate([s.counts.sum(axis=1) for s in slides]))
    if locks:
        assert sorted(n for n, *_ in found) == [0, 0, 2]
    assert len(contents(private_cache / "datasets")) == 1


def test_a_cache_that_cannot_be_written(task, tmp_path):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(UserError, match=r"a_file/cache cannot \(Not a directory\); set AGL_CACHE or cache_dir"):
        open_dataset(task()[0], features="uni", cache_dir=tmp_path / "a_file" / "cache")


def test_cache_dir_before_environment(task, tmp_path, private_cache):
    dataset = open_dataset(task()[0], features="uni", cache_dir=tmp_path / "mine")
    assert dataset.folder.is_relative_to(tmp_path / "mine")
    assert not private_cache.exists()


def test_unchanged_files_are_hashed_once(tmp_path, monkeypatch):
    path, memo = tmp_path / "big", tmp_path / "memo"
    memo.mkdir()
    path.write_bytes(b"abc")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    calls = []
    original = hashing.sha256_of_file
    monkeypatch.setattr(hashing, "sha256_of_file", lambda p: calls.append(p) or original(p))
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert [hashing.sha256_remembered(path, memo) for _ in range(3)] == [abc] * 3
    assert len(calls) == 1
    path.write_bytes(b"abd")  # same size, new time; too young to be remembered
    assert hashing.sha256_remembered(path, memo) == hashing.sha256_remembered(path, memo) != abc
    assert len(calls) == 3
    next(memo.iterdir()).write_text("not json")
    hashing.sha256_remembered(path, memo)


def test_growing_array_rows_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 3)).astype(np.float32)
    with GrowingArray(tmp_path / "a.npy", np.dtype(np.float32), (3,)) as array:
        array.append(truth[:10])
        first = array.reserve(40)
        for part in np.array_split(rng.permutation(40), 7):
            array.write_rows(first + part, truth[10 + part])
        array.write_rows(np.array([], dtype=int), truth[:0])
        with pytest.raises(ValueError, match=r"rows of shape \(3,\), received \(2,\)"):
            array.append(np.zeros((1, 2)))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), truth)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), truth)
