"""A cache on a disk that forgets: flipped bits, damaged notes, files that go while they are read."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest

from agl.data import dataset as opening
from agl.data.dataset import open_dataset
from agl.data.reading import cache
from agl.errors import UserError


def imported(root):
    """(dataset, slides imported for it)"""
    done: list[str] = []
    dataset = open_dataset(root, features="uni", progress=lambda what, *_: done.append(what))
    return dataset, [what for what in done if what]


def rot(path, seed=0):
    """A flipped bit, as a disk leaves it: size and time stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    place = np.random.default_rng(seed).integers(len(data))
    data[place] ^= 1 << (seed % 8)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


FILES = ["genes.json", "index.csv", "report.json", "lost_genes.csv", "library_size.npy", "indptr.npy", "indices.npy",
         "data.npy", "features.npy", "patch_rows.npy", "feature_rows.npy", "manifest.json"]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_seen_though_size_and_time_are_the_same(task, caplog, name, seed):
    root, _ = task()
    first, _ = imported(root)
    whole = {name: np.array(getattr(first, name)) for name in ("features", "library_size", "feature_rows")}
    counts, spots = first.counts.toarray(), first.spots.copy()
    assert {path.name for path in first.folder.iterdir()} == set(FILES)
    rot(first.folder / name, seed)
    before = (first.folder / name).read_bytes()
    with caplog.at_level(logging.WARNING, "agl.data"):
        second, slides = imported(root)
    if name != "manifest.json":  # of whose bits not all mean something
        assert slides == ["S1", "S2"]
        assert f"{name} has changed" in caplog.text
    if slides:
        assert caplog.text.count("importing again") == 1
        assert (second.folder / name).read_bytes() != before
    assert second.genes == first.genes
    assert second.spots.equals(spots)
    np.testing.assert_array_equal(second.counts.toarray(), counts)
    for name, values in whole.items():
        np.testing.assert_array_equal(getattr(second, name), values)


def test_large_files_are_compared_once_a_day_whatever_the_clock_does(task, private_cache, monkeypatch, caplog):
    root, _ = task()
    first, _ = imported(root)
    features, place = np.array(first.features), first.folder / "features.npy"
    monkeypatch.setattr(cache, "_SMALL", 0)
    hashed = []
    original = cache.sha256_of_file
    monkeypatch.setattr(cache, "sha256_of_file", lambda path: hashed.append(path.name) or original(path))
    now = cache.time.time()
    for clock, compared in [(now, 0), (now + 80_000, 0), (now + 90_000, 11), (now + 90_001, 0), (now - 10_000, 11),
                            (now, 0), (0.0, 11), (now, 11), (now, 0)]:  # fmt: skip
        hashed.clear()
        monkeypatch.setattr(cache.time, "time", lambda clock=clock: clock)
        imported(root)
        assert len(hashed) == compared
    rot(place)
    monkeypatch.setattr(cache.time, "time", lambda: now + 90_000)
    second, slides = imported(root)
    assert slides == ["S1", "S2"]
    np.testing.assert_array_equal(second.features, features)
    for mark in (private_cache / "fingerprints").glob("*.verified"):
        mark.write_text("not a number")
    hashed.clear()
    assert imported(root)[1] == []
    assert len(hashed) == 11


@pytest.mark.parametrize(
    "manifest", ["", "null", "[]", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {"genes.json": {}}}', "\udcff",
                 '{"files": {"genes.json": {"bytes": "x", "mtime_ns": null, "sha256": 3}}}', "[" * 100_000,
                 '{"files": {"a\\u0000b": {"bytes": 1, "mtime_ns": 1, "sha256": ""}}}']
)  # fmt: skip
def test_a_manifest_that_is_none(task, caplog, manifest):
    first, _ = imported(task()[0])
    (first.folder / "manifest.json").write_text(manifest, errors="surrogateescape")
    with caplog.at_level(logging.WARNING, "agl.data"):
        second, slides = imported(task()[0])
    assert slides == ["S1", "S2"]
    assert "is damaged" in caplog.text
    assert json.loads((second.folder / "manifest.json").read_text())["key"] == second.folder.name


@pytest.mark.parametrize("name", ["genes.json", "report.json", "index.csv", "features.npy"])
def test_a_cache_that_goes_while_it_is_read_is_built_again_or_said(task, monkeypatch, name):
    root, _ = task()
    original, gone = opening.load, []

    def load(folder, files, times=1):
        if len(gone) < times:
            gone.append(folder)
            (folder / name).write_text("[")
        return original(folder, files)

    monkeypatch.setattr(opening, "load", load)
    found, slides = imported(root)
    assert slides == ["S1", "S2"] * 2
    assert found.genes
    gone.clear()
    monkeypatch.setattr(opening, "load", lambda folder, files: load(folder, files, times=9))
    with pytest.raises(
        UserError, match=r"Expected the cached import .* gone or changed \(.*\); start the command again"
    ):
        imported(root)


def test_temporary_files_of_killed_writers_are_swept(task, private_cache):
    root, _ = task()
    imported(root)
    old, young = (private_cache / "fingerprints" / f"{word}.7.tmp" for word in ("old", "young"))
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    imported(root)
    assert not old.exists()
    assert young.exists()
    assert sorted(path.name for path in private_cache.iterdir()) == ["datasets", "fingerprints"]


def test_a_flipped_bit_in_a_note_of_a_files_hash_is_no_other_dataset(task, private_cache):
    root, _ = task()
    for path in root.rglob("*.h5*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))  # long settled, so its hash is noted
    key = imported(root)[0].folder.name
    notes = list((private_cache / "fingerprints").glob("*.json"))
    assert notes
    for seed in range(20):
        for path in notes:
            rot(path, seed)
        found, slides = imported(root)
        assert (found.folder.name, slides) == (key, [])
