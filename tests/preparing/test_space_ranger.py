"""Space Ranger's folders: the same counts and places, spot by spot, as scanpy reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy

import agl
from agl.errors import UserError
from agl.preparing.sources.positions import read_positions
from agl.preparing.sources.tenx import read_tenx_folder, read_tenx_h5
from tests.preparing.forms import HEADER, Truth, positions, write_matrix, write_mtx, write_outs, write_spatial

TABLES = ["tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet"]


def prepared(sample: Path, out: Path, **settings) -> anndata.AnnData:
    done = agl.prepare(sample, out, progress=False, patch_um=60, patch_px=24, **settings)
    assert done.failed == {}
    (name,) = done.table.section
    return anndata.read_h5ad(out / "adata" / f"{name}.h5ad")


@pytest.mark.parametrize("table", TABLES[:2])
def test_counts_and_places_are_those_that_scanpy_reads(truth: Truth, tmp_path: Path, table: str) -> None:
    outs = write_outs(tmp_path / "S1", truth, table=table)
    ours = prepared(tmp_path / "S1", tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = scanpy.read_visium(outs)
    theirs.var_names_make_unique()
    assert ours.obs_names.tolist() == theirs.obs_names.tolist()
    assert ours.var_names.tolist() == theirs.var_names.tolist()
    assert (ours.X != theirs.X).nnz == 0
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    for column in ("in_tissue", "array_row", "array_col"):
        np.testing.assert_array_equal(ours.obs[column], theirs.obs[column])
    assert ours.var["gene_ids"].tolist() == theirs.var["gene_ids"].tolist()
    library = ours.uns["spatial"]["S1"]
    expected = theirs.uns["spatial"]["sample"]
    assert library["scalefactors"] == pytest.approx(expected["scalefactors"])
    for name in ("hires", "lowres"):
        np.testing.assert_allclose(library["images"][name] / 255, expected["images"][name][..., :3], atol=1e-6)
    assert library["metadata"]["chemistry_description"] == "Spatial 3' v1"


@pytest.mark.parametrize(("matrix", "table"), zip(["mtx", "h5", "raw"], TABLES, strict=True))
def test_every_version_gives_the_spots_on_tissue(truth: Truth, tmp_path: Path, matrix: str, table: str) -> None:
    write_outs(tmp_path / "S1", truth, matrix=matrix, table=table)
    ours = prepared(tmp_path / "S1", tmp_path / "out")
    assert ours.obs_names.tolist() == truth.barcodes[truth.kept].tolist()
    np.testing.assert_array_equal(ours.X.toarray(), truth.counts[truth.kept])
    np.testing.assert_array_equal(ours.obsm["spatial"], truth.xy[truth.kept])


def test_the_matrix_is_read_as_scanpy_reads_it(truth: Truth, tmp_path: Path) -> None:
    rows = np.array([0, 3, 5, 40])
    write_matrix(tmp_path / "m.h5", truth, rows)
    write_mtx(tmp_path / "mtx", truth, rows)
    for matrix, theirs in (
        (read_tenx_h5(tmp_path / "m.h5"), scanpy.read_10x_h5(tmp_path / "m.h5")),
        (read_tenx_folder(tmp_path / "mtx"), scanpy.read_10x_mtx(tmp_path / "mtx", make_unique=False)),
    ):
        assert matrix.barcodes.tolist() == theirs.obs_names.tolist()
        assert matrix.genes().names.tolist() == theirs.var_names.tolist()
        (all_rows,) = matrix.blocks(np.arange(4))
        np.testing.assert_array_equal(all_rows.toarray(), theirs.X.toarray())
        (some,) = matrix.blocks(np.array([1, 3]))
        np.testing.assert_array_equal(some.toarray(), theirs.X.toarray()[[1, 3]])


def test_a_matrix_is_read_in_blocks(truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agl.preparing.sources.tenx._VALUES", 100)
    write_matrix(tmp_path / "m.h5", truth, np.arange(64))
    matrix = read_tenx_h5(tmp_path / "m.h5")
    blocks = list(matrix.blocks(np.arange(10, 64)))
    assert len(blocks) > 10
    assert max(block.nnz for block in blocks) <= 100
    np.testing.assert_array_equal(np.vstack([block.toarray() for block in blocks]), truth.counts[10:])


def test_files_of_an_archive_are_found_by_their_prefix(truth: Truth, tmp_path: Path) -> None:
    folder = tmp_path / "geo"
    write_matrix(folder / "GSM1_S7_filtered_feature_bc_matrix.h5", truth, truth.kept)
    write_spatial(folder, truth, "tissue_positions_list.csv")
    for file in [f for f in folder.iterdir() if not f.name.startswith("GSM1")]:
        file.rename(folder / f"GSM1_S7_{file.name}")
    ours = prepared(folder / "GSM1_S7_filtered_feature_bc_matrix.h5", tmp_path / "out")
    np.testing.assert_array_equal(ours.X.toarray(), truth.counts[truth.kept])
    assert (tmp_path / "out/patches/GSM1_S7.h5").is_file()
    (folder / "GSM1_S7_tissue_positions_list.csv").unlink()
    done = agl.prepare(folder / "GSM1_S7_filtered_feature_bc_matrix.h5", tmp_path / "other", progress=False)
    assert "found no GSM1_S7_tissue_positions.csv" in done.failed["GSM1_S7"]


def test_an_h5ad_gets_patches_and_keeps_its_columns(truth: Truth, tmp_path: Path) -> None:
    section = anndata.AnnData(truth.counts[truth.kept].astype(np.float32))
    section.obs_names, section.var_names = truth.barcodes[truth.kept], truth.ids
    section.var["gene_symbols"] = truth.genes
    section.obs["region"] = pd.Categorical(["a", "b"] * (section.n_obs // 2) + ["a"] * (section.n_obs % 2))
    section.obsm["spatial"] = truth.xy[truth.kept]
    section.write_h5ad(tmp_path / "S9.h5ad")
    from PIL import Image

    Image.fromarray(truth.image).save(tmp_path / "S9.png")
    ours = prepared(tmp_path / "S9.h5ad", tmp_path / "out", mpp=2.5, patient="P4")
    np.testing.assert_array_equal(ours.X.toarray(), truth.counts[truth.kept])
    assert ours.obs["region"].tolist() == section.obs["region"].tolist()
    assert ours.var_names[:3].tolist() == truth.genes[:3]
    assert ours.var["gene_ids"].tolist() == truth.ids
    assert set(ours.obs["patient"]) == {"P4"}
    with h5py.File(tmp_path / "out/patches/S9.h5") as h5:
        x, y = h5["coords"][4]
        np.testing.assert_array_equal(h5["img"][4], truth.image[y : y + 24, x : x + 24])


def test_places_with_a_header_and_without_are_one(truth: Truth, tmp_path: Path) -> None:
    for table in (*TABLES, "tissue_positions.csv.gz"):
        write_spatial(tmp_path, truth, table)
        read = read_positions(tmp_path / table)
        pd.testing.assert_frame_equal(
            read.reset_index(), positions(truth)[HEADER], check_dtype=False, check_names=False
        )
    spoiled = (tmp_path / TABLES[0]).read_text().replace(",", ";")
    (tmp_path / "tissue_positions.csv").write_text("\ufeff" + spoiled)
    assert read_positions(tmp_path / TABLES[0]).iloc[3].tolist() == positions(truth).iloc[3, 1:].tolist()


def test_a_barcode_twice_in_the_places_is_refused(truth: Truth, tmp_path: Path) -> None:
    table = positions(truth)
    table.loc[1, "barcode"] = table.loc[0, "barcode"]
    table.to_csv(tmp_path / "tissue_positions.csv", index=False)
    with pytest.raises(UserError, match=r"Expected each barcode once .* comes twice"):
        read_positions(tmp_path / "tissue_positions.csv")
