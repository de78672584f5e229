"""What lies where an h5ad should, and what keeps a whole one from being read: named, with the way out."""

from __future__ import annotations

import gzip
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading import datasets
from agl.data.reading.h5ad import read_header
from agl.data.reading.hdf5 import open_h5
from agl.errors import UserError


@pytest.fixture
def section(tmp_path, make_slide, write_h5ad):
    """The path of a good h5ad in a folder of its own."""
    return write_h5ad(tmp_path / "data" / "S1.h5ad", make_slide("S1"))


def said(path):
    """The sentence of `open_dataset`, which `check` must say too."""
    with pytest.raises(UserError) as caught:
        open_dataset(path, features="none")
    message = str(caught.value)
    assert "\n" not in message
    assert message in [f.message for f in check(path).findings if f.level == "error"]
    return message


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


def as_gzip(path):
    path.write_bytes(gzip.compress(path.read_bytes()))


def as_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.zarr/.zgroup", "{}")


def as_text_table(path):
    path.write_text("barcode,ERBB2,CD3E\nb1,0,1\n")


def as_tab_table(path):
    path.write_text("barcode\tERBB2\nb1\t0\n")


def as_seurat(path):
    path.write_bytes(b"RDX3\nX\n\x00\x00\x00")


def as_web_page(path):
    path.write_text("<!DOCTYPE html><html>Not found</html>")


def as_parquet(path):
    path.write_bytes(b"PAR1\x00\x00")


def as_zstd(path):
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00")


def as_matrix_market(path):
    path.write_text("%%MatrixMarket matrix coordinate integer general\n")


def with_groups(*names):
    def write(path):
        with h5py.File(path, "w") as h5:
            for name in names:
                h5.create_group(name)

    write.__name__ = "_".join(names)
    return write


def as_zarr(path):
    path.unlink()
    anndata.AnnData(np.zeros((2, 2)), obs=pd.DataFrame(index=["a", "b"])).write_zarr(path)


def as_spatialdata(path):
    path.unlink()
    for name in ("images", "shapes", "tables/table"):
        (path / name).mkdir(parents=True)
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')


def as_space_ranger(path):
    path.unlink()
    (path / "outs" / "spatial").mkdir(parents=True)


FOREIGN = [
    (as_gzip, r"is compressed with gzip; unpack it: `gzip -dc S1\.h5ad > copy\.h5ad`"),
    (as_zip, r"is a zip archive; unpack it, .* anndata\.read_zarr\('<folder>'\)\.write_h5ad"),
    (
        as_text_table,
        r"is a text table; read it with anndata\.AnnData\(pandas\.read_csv\('S1\.h5ad', index_col=0\)\), add",
    ),
    (as_tab_table, r"index_col=0, sep='\\t'\)"),
    (as_seurat, r"is an object of R \(Seurat\); in R, write anndataR::write_h5ad\(readRDS\('S1\.h5ad'\)"),
    (as_web_page, r"is a web page, perhaps an error of the download"),
    (as_parquet, r"is a Parquet table"),
    (as_zstd, r"is compressed \(bzip2, xz or zstd\)"),
    (as_matrix_market, r"is a Matrix Market file; read it with scanpy\.read_mtx\('S1\.h5ad'\)\.T"),
    (with_groups("matrix"), r"is a 10x matrix .* write `agl prepare OUTS --out FOLDER`, OUTS being the folder"),
    (with_groups("matrix", "row_attrs", "col_attrs"), r"is a loom file; read it with scanpy\.read_loom\('S1\.h5ad'\)"),
    (with_groups("mod", "obs"), r"is a MuData file; write mudata\.read_h5mu\('S1\.h5ad'\)\.mod\['rna'\]"),
    (with_groups("assays", "cell.names"), r"SeuratDisk::LoadH5Seurat\('S1\.h5ad'\)"),
    (with_groups("embeddings", "coords"), r"is a file of patches or features; it belongs into patches/"),
    (as_zarr, r"found a Zarr store of AnnData; write `agl prepare .*S1\.h5ad --out FOLDER`"),
    (as_spatialdata, r"found a SpatialData store; write `agl prepare .*S1\.h5ad --out FOLDER --image FILE`"),
    (as_space_ranger, r"found Space Ranger's output folder; write `agl prepare .*outs --out FOLDER --image FILE`"),
]


@pytest.mark.parametrize(("become", "sentence"), FOREIGN, ids=[f.__name__ for f, _ in FOREIGN])
def test_another_format_under_this_name(section, become, sentence):
    become(section)
    with pytest.raises(UserError) as caught:
        open_dataset(section.parent, features="none")
    assert pd.Series([str(caught.value)]).str.contains(sentence).all(), str(caught.value)
    found = [f.message for f in check(section.parent).findings if f.level == "error"]
    assert pd.Series(found).str.contains(sentence).any(), found


FOLDERS = [
    (as_zarr, "S1.zarr", r"S1\.zarr is a Zarr store of AnnData; write `agl prepare .*S1\.zarr"),
    (as_spatialdata, "S1.zarr", r"S1\.zarr is a SpatialData store"),
    (as_space_ranger, "S1", r"S1 is Space Ranger's output folder"),
    (with_groups("matrix"), "filtered_feature_bc_matrix.h5", r"filtered_feature_bc_matrix\.h5 is a 10x matrix"),
    (with_groups("matrix", "row_attrs", "col_attrs"), "S1.loom", r"S1\.loom is a loom file"),
    (with_groups("assays", "meta.data"), "S1.h5seurat", r"S1\.h5seurat is an object of R"),
    (as_seurat, "S1.rds", r"S1\.rds is an object of R"),
    (as_gzip, "S1.h5ad.gz", r"S1\.h5ad\.gz is compressed with gzip"),
]


@pytest.mark.parametrize(("become", "name", "sentence"), FOLDERS, ids=[f"{f.__name__} {n}" for f, n, _ in FOLDERS])
@pytest.mark.parametrize("where", ["beside", "in adata", "given"])
def test_another_format_where_sections_are_looked_for(section, become, name, sentence, where):
    folder = section.parent / "adata" if where == "in adata" else section.parent
    folder.mkdir(exist_ok=True)
    other = folder / name
    shutil.move(section, other)
    become(other)
    assert pd.Series([said(other if where == "given" else section.parent)]).str.contains(sentence).all()


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
