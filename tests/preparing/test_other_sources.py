"""Tables of Spatial Transcriptomics, and Zarr stores."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

import agl
from agl.data.example import example_folder
from tests.preparing.forms import Truth


def write_her2st(root: Path, section: str) -> anndata.AnnData:
    """A section of the example in the three files in which HER2ST was published; some spots are not selected."""
    stored = anndata.read_h5ad(example_folder() / "adata" / f"{section}.h5ad")[:, :300].copy()
    counts = pd.DataFrame(np.asarray(stored.X), stored.obs_names, stored.var_names)
    for folder in ("ST-cnts", "ST-spotfiles", f"ST-imgs/{section[0]}/{section}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    counts.to_csv(root / f"ST-cnts/{section}.tsv.gz", sep="\t")
    x, y = (np.array([int(name.split("x")[axis]) for name in stored.obs_names]) for axis in (0, 1))
    table = pd.DataFrame({"x": x, "y": y, "new_x": x + 0.03, "new_y": y - 0.02})
    table["pixel_x"], table["pixel_y"] = stored.obsm["spatial"].T
    table["selected"] = (np.arange(len(x)) % 10 != 3).astype(int)
    table.sample(frac=1, random_state=0).to_csv(root / f"ST-spotfiles/{section}_selection.tsv", sep="\t", index=False)
    size = np.ceil(stored.obsm["spatial"].max(axis=0) / 20).astype(int) + 20
    Image.new("RGB", tuple(int(n) for n in size), (230, 180, 210)).save(
        root / f"ST-imgs/{section[0]}/{section}/HE_{section}.jpg"
    )
    return stored


def test_her2st_as_it_was_published(tmp_path: Path) -> None:
    truth = {section: write_her2st(tmp_path / "her2st", section) for section in ("B4", "C2")}
    shutil.rmtree(tmp_path / "her2st/ST-imgs")
    done = agl.prepare(tmp_path / "her2st", tmp_path / "out", progress=False)
    assert done.failed == {}
    assert done.table.section.tolist() == ["B4", "C2"]
    for section, theirs in truth.items():
        ours = anndata.read_h5ad(tmp_path / f"out/adata/{section}.h5ad")
        selected = np.arange(theirs.n_obs) % 10 != 3
        assert ours.obs_names.tolist() == theirs.obs_names[selected].tolist()
        assert ours.var_names.tolist() == theirs.var_names.tolist()
        np.testing.assert_array_equal(ours.X.toarray(), np.asarray(theirs.X)[selected])
        np.testing.assert_allclose(ours.obsm["spatial"], theirs.obsm["spatial"][selected])
        np.testing.assert_array_equal(ours.obs["array_row"], theirs.obs["array_row"][selected])
        assert done.remarks[section][0] == f"Spots without a place or not selected, left out: {(~selected).sum()}."


def test_one_table_with_genes_as_rows_and_measured_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = rng.permutation(100)[:30] // [1] % 100
    x, y = places % 10 + 0.123, places // 10 + 0.456
    counts = pd.DataFrame(
        rng.poisson(1, (5, 30)), [f"G{i}" for i in range(5)], [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    )
    counts.to_csv(tmp_path / "S5_stdata.tsv", sep="\t")
    table = pd.DataFrame({"x": places % 10, "y": places // 10, "new_x": x.round(2), "new_y": y.round(2)})
    table["pixel_x"], table["pixel_y"] = 290 * x, 290 * y
    table.to_csv(tmp_path / "spot_data-selection-S5.tsv", sep="\t", index=False)
    agl.prepare(tmp_path / "S5_stdata.tsv", tmp_path / "out", progress=False)
    ours = anndata.read_h5ad(tmp_path / "out/adata/S5.h5ad")
    np.testing.assert_array_equal(ours.X.toarray(), counts.T.to_numpy())
    np.testing.assert_allclose(ours.obsm["spatial"], np.column_stack([290 * x, 290 * y]))


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda r: (r / "ST-spotfiles/C2_selection.tsv").unlink(), "add C2_selection.tsv"),
        (
            lambda r: (r / "ST-cnts/C2.tsv.gz").write_bytes((r / "ST-cnts/C2.tsv.gz").read_bytes()[:9000]),
            "cannot read it",
        ),
        (lambda r: rescaled(r / "ST-cnts/C2.tsv.gz"), "received fractions"),
        (lambda r: moved(r / "ST-spotfiles/C2_selection.tsv"), "received none (such as"),
    ],
)
def test_broken_tables_are_one_sentence(tmp_path: Path, spoil, part: str) -> None:
    write_her2st(tmp_path / "her2st", "C2")
    spoil(tmp_path / "her2st")
    done = agl.prepare(tmp_path / "her2st", tmp_path / "out", progress=False)
    assert part in done.failed["C2"]


def rescaled(path: Path) -> None:
    (pd.read_csv(path, sep="\t", index_col=0) / 2).to_csv(path, sep="\t")


def moved(path: Path) -> None:
    table = pd.read_csv(path, sep="\t")
    table["x"] += 100
    table.to_csv(path, sep="\t", index=False)


@pytest.fixture
def stored(truth: Truth) -> anndata.AnnData:
    section = anndata.AnnData(truth.counts[truth.kept].astype(np.int32))
    section.obs_names, section.var_names = truth.barcodes[truth.kept], [f"N{i}" for i in range(section.n_vars)]
    section.obsm["spatial"] = truth.xy[truth.kept].astype(float)
    return section


def test_an_anndata_store(stored: anndata.AnnData, truth: Truth, tmp_path: Path) -> None:
    stored.write_zarr(tmp_path / "S3.zarr")
    Image.fromarray(truth.image).save(tmp_path / "S3.png")
    done = agl.prepare(tmp_path / "S3.zarr", tmp_path / "out", mpp=2.5, patch_um=60, patch_px=24, progress=False)
    assert done.failed == {}
    ours = anndata.read_h5ad(tmp_path / "out/adata/S3.h5ad")
    np.testing.assert_array_equal(ours.X.toarray(), stored.X)
    np.testing.assert_array_equal(ours.obsm["spatial"], stored.obsm["spatial"])
    assert (tmp_path / "out/patches/S3.h5").is_file()


def write_spatialdata(root: Path, table: anndata.AnnData, xy: np.ndarray) -> None:
    """The parts of a SpatialData store that are read: its table, and points of GeoParquet (WKB) as shapes."""
    (root / "tables").mkdir(parents=True)
    (root / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    table.obs["region"], table.obs["instance"] = pd.Categorical(["spots"] * table.n_obs), np.arange(table.n_obs) + 5
    table.uns["spatialdata_attrs"] = {"region": "spots", "region_key": "region", "instance_key": "instance"}
    table.write_zarr(root / "tables/table")
    (root / "shapes/spots").mkdir(parents=True)
    points = [struct.pack("<BIdd", 1, 1, x, y) for x, y in xy]
    shapes = pd.DataFrame({"geometry": points, "radius": 20.0}, index=np.arange(len(xy)) + 5)
    shapes.sample(frac=1, random_state=0).to_parquet(root / "shapes/spots/shapes.parquet")


@pytest.mark.parametrize("with_places", [True, False])
def test_a_spatialdata_store(stored: anndata.AnnData, tmp_path: Path, with_places: bool) -> None:
    xy = stored.obsm["spatial"].copy()
    if not with_places:
        del stored.obsm["spatial"]
    write_spatialdata(tmp_path / "S4.zarr", stored, xy)
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "out", progress=False)
    assert done.failed == {}
    ours = anndata.read_h5ad(tmp_path / "out/adata/S4.h5ad")
    np.testing.assert_array_equal(ours.X.toarray(), stored.X)
    np.testing.assert_array_equal(ours.obsm["spatial"], xy)


def test_stores_that_cannot_be_used_are_one_sentence(stored: anndata.AnnData, tmp_path: Path) -> None:
    write_spatialdata(tmp_path / "S4.zarr", stored, stored.obsm["spatial"])
    shutil.copytree(tmp_path / "S4.zarr/tables/table", tmp_path / "S4.zarr/tables/square_016um")
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "out", progress=False)
    assert "Expected one table" in done.failed["S4"]
    shutil.rmtree(tmp_path / "S4.zarr/tables/square_016um")
    shutil.rmtree(tmp_path / "S4.zarr/tables/table/X")
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "out", progress=False)
    assert "received none but zeros" in done.failed["S4"]
    stored.obs["region"] = pd.Categorical(["a", "b"] * (stored.n_obs // 2) + ["a"] * (stored.n_obs % 2))
    shutil.rmtree(tmp_path / "S4.zarr/tables/table")
    stored.write_zarr(tmp_path / "S4.zarr/tables/table")
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "out", progress=False)
    assert "obs['region'] names 2 (a, b)" in done.failed["S4"]


def test_a_store_that_was_half_copied_is_refused(stored: anndata.AnnData, tmp_path: Path) -> None:
    """Zarr takes a chunk that is not there for zeros."""
    stored.X = sparse.csr_matrix(stored.X)
    stored.write_zarr(tmp_path / "S3.zarr")
    chunks = [p for p in (tmp_path / "S3.zarr/X/data").rglob("*") if p.is_file() and p.name[0].isdigit()]
    assert chunks
    chunks[0].unlink()
    done = agl.prepare(tmp_path / "S3.zarr", tmp_path / "out", progress=False)
    assert "received 0; copy the store again" in done.failed["S3"]


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """OME-NGFF: [c, y, x] and its half, chunked."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space"} for name in "cyx"]
    levels = [pixels, pixels[::2, ::2]]
    for number, level in enumerate(levels):
        array = np.ascontiguousarray(np.moveaxis(level, 2, 0))
        group.create_array(str(number), data=array, chunks=(3, 64, 64))
    datasets = [{"path": str(number)} for number in range(len(levels))]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def test_the_picture_in_a_spatialdata_store(stored: anndata.AnnData, truth: Truth, tmp_path: Path) -> None:
    write_spatialdata(tmp_path / "S4.zarr", stored, stored.obsm["spatial"])
    write_picture(tmp_path / "S4.zarr/images/S4_full_image", truth.image)
    write_picture(tmp_path / "S4.zarr/images/S4_hires_image", truth.image[::4, ::4])
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "out", mpp=2.5, patch_um=60, patch_px=24, progress=False)
    assert done.failed == {}
    with h5py.File(tmp_path / "out/patches/S4.h5") as h5:
        for (x, y), patch in zip(h5["coords"][:], h5["img"][:], strict=True):
            np.testing.assert_array_equal(patch, truth.image[y : y + 24, x : x + 24])
    write_picture(tmp_path / "S4.zarr/images/another", truth.image)
    done = agl.prepare(tmp_path / "S4.zarr", tmp_path / "new", mpp=2.5, progress=False)
    assert "Expected one full-resolution picture" in done.failed["S4"]
    given = tmp_path / "S4.zarr/images/another"
    assert agl.prepare(tmp_path / "S4.zarr", tmp_path / "new", image=given, mpp=2.5, progress=False).failed == {}
