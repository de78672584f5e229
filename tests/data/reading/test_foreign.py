"""Another format where an h5ad should be: named, with the way out."""

from __future__ import annotations

import gzip
import shutil
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.errors import UserError
from tests.data.reading.opening import said, section

__all__ = ["section"]


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
