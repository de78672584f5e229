"""What keeps a whole h5ad from being read, and what is no file at all: named, with the way out."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys

import h5py
import numpy as np
import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading import datasets
from agl.data.reading.h5ad import read_header
from agl.data.reading.hdf5 import open_h5
from agl.errors import UserError
from tests.data.reading.opening import said, section

__all__ = ["section"]


def test_open_for_writing_in_another_program(section):
    hold = f"import h5py, sys; f = h5py.File({str(section)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"open\n"
        assert said(section).endswith("S1.h5ad is open for writing in another program; close it there and try again.")
    finally:
        other.communicate()
    assert len(open_dataset(section, features="none")) == 12


def test_left_open_by_a_program_that_died(section):
    leave = f"import h5py, os; f = h5py.File({str(section)!r}, 'r+', libver='latest'); f.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", leave], check=True)
    try:
        h5py.File(section).close()
    except OSError:
        assert "is marked as open for writing" in said(section)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("Unable to open file (unable to lock file, errno = 37, error message = 'No locks available')", "FILE_LOCKING"),
        ("Unable to open file (file is already open for write (may use <h5clear file>))", "h5clear -s"),
    ],
)
def test_file_systems_without_locks_and_marks_of_dead_writers(section, monkeypatch, error, word):
    def fails(*_):
        raise OSError(error)

    monkeypatch.setattr(h5py, "File", fails)
    with pytest.raises(UserError, match=word), open_h5(section, "an h5ad file"):
        pass


def packed(path, code):
    """X/data through a filter that HDF5 does not have; it is stored as the chunk that such a filter would make."""
    with h5py.File(path, "a") as h5:
        values = h5["X/data"][...]
        del h5["X/data"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((len(values),))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(values.shape)
        data = h5py.h5d.create(h5["X"].id, b"data", h5py.h5t.py_create(values.dtype), space, properties)
        data.write_direct_chunk((0,), values.tobytes())


@pytest.mark.parametrize(("code", "name"), [(32015, "zstd"), (32001, "blosc"), (32999, "an unknown filter")])
@pytest.mark.parametrize("installed", [True, False])
def test_a_filter_that_is_not_installed(section, monkeypatch, code, name, installed):
    if code < 32_100 and importlib.util.find_spec("hdf5plugin"):
        pytest.skip("hdf5plugin is installed")
    monkeypatch.setattr(datasets, "plugins_installed", lambda: installed)
    packed(section, code)
    message = said(section)
    assert f"'X/data' in {section} is packed with {name} (HDF5 filter {code}); " in message
    assert ("`pip install hdf5plugin`" in message) is not installed


def test_a_filter_is_named_for_other_files_too(tmp_path):
    """Whatever reads a file inside `open_h5`: patches, features."""
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as h5:
        h5["X/data"] = np.zeros(5)
    packed(path, 32999)
    with pytest.raises(UserError, match="is packed with an unknown filter"), open_h5(path) as h5:
        h5["X/data"][...]


def test_plugins_are_loaded_where_they_are_installed(tmp_path, section):
    """In a process of its own: filters stay loaded."""
    pytest.importorskip("hdf5plugin")
    write = (
        f"import hdf5plugin, h5py\nwith h5py.File({str(section)!r}, 'a') as h5:\n"
        "    h5.create_dataset('zstd', data=[0] * 99, **hdf5plugin.Zstd())"
    )
    subprocess.run([sys.executable, "-c", write], check=True)
    read = (
        "from agl.data.reading.hdf5 import open_h5\nfrom pathlib import Path\n"
        f"with open_h5(Path({str(section)!r})) as h5: assert h5['zstd'][...].sum() == 0"
    )
    subprocess.run([sys.executable, "-c", read], check=True)


@pytest.mark.parametrize("what", ["X/data", "obs/_index", "obsm/spatial", "X/indptr"])
def test_more_declared_than_can_be_stored(section, what):
    """A few bytes that declare terabytes: refused before memory is asked for."""
    with h5py.File(section, "a") as h5:
        old = h5[what]
        shape, dtype = (10**12, *old.shape[1:]), old.dtype
        del h5[what]
        h5.create_dataset(what, shape=shape, chunks=(10**6, *shape[1:]), dtype=dtype)
        if what == "X/data":
            del h5["X/indices"]
            h5.create_dataset("X/indices", shape=shape, chunks=(10**6,), dtype="i4")
    message = said(section)
    assert "TB in 0 bytes" in message or "rises from 0 to 1000000000000" in message or "entries of indptr" in message


def test_a_chunk_of_gigabytes(section):
    with h5py.File(section, "a") as h5:
        values = h5["obsm/spatial"][...]
        del h5["obsm/spatial"]
        bomb = h5.create_dataset(
            "obsm/spatial", (12, 2), chunks=(10**8, 2), maxshape=(None, 2), dtype="f8", compression="gzip"
        )
        assert bomb.id.get_storage_size() == 0
        assert len(values) == 12
    assert "declares 1.49 GB in 0 bytes" in said(section)


def test_more_than_the_memory(section, monkeypatch):
    monkeypatch.setattr(datasets, "_HARMLESS", 10)
    monkeypatch.setattr(datasets, "_free_memory", lambda: 50)
    assert "and 50 bytes are free" in said(section)


def test_nothing_of_a_size_that_is_harmless_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("a", shape=(1_000_000,), chunks=True, compression="gzip", dtype="i1")
        assert datasets.read(h5["a"], slice(5, 9)).tolist() == [0] * 4
        assert datasets.read(h5["a"]).shape == (1_000_000,)


def pipe(path):
    os.mkfifo(path)


def link_circle(path):
    path.symlink_to(path)


def broken_link(path):
    path.symlink_to(path.parent / "gone")


def device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (pipe, "it is a pipe"),
        (link_circle, "its links lead in a circle"),
        (broken_link, "there is no such file"),
        (device, "it is a device or a socket"),
        (unix_socket, "it is a device or a socket"),
    ],
)
def test_what_is_no_file_is_not_waited_for(section, put, words):
    section.unlink()
    put(section)
    with pytest.raises(UserError, match=words):
        read_header("S1", section)
    with pytest.raises(UserError, match=words):
        open_dataset(section.parent, features="none")
    assert any(words in f.message for f in check(section.parent).findings if f.level == "error")


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("seed", range(20))
def test_files_that_end_anywhere(section, seed, form, make_slide, write_h5ad):
    rewritten(section, form, make_slide, write_h5ad)
    os.truncate(section, int(np.random.default_rng([1, seed]).integers(section.stat().st_size)))
    assert "S1" in said(section)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_changed(section, seed, form, make_slide, write_h5ad):
    """A sentence, or what was readable all the same; never a crash, a traceback or a hang."""
    rewritten(section, form, make_slide, write_h5ad)
    rng = np.random.default_rng([2, seed])
    content = bytearray(section.read_bytes())
    for at in rng.integers(len(content), size=rng.integers(1, 40)):
        content[at] = rng.integers(256)
    section.write_bytes(content)
    try:
        assert open_dataset(section, features="none").counts.shape[0] == 12
    except UserError:
        assert check(section).status == "error"


def rewritten(section, form, make_slide, write_h5ad):
    from scipy import sparse

    slide = make_slide("S1")
    write_h5ad(section, slide, x={"csr": None, "csc": sparse.csc_matrix(slide.counts), "dense": slide.counts}[form])
