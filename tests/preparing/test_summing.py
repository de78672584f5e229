"""Visium HD and Xenium: sums over squares beside a plain loop, wherever the spots of a square stand in the file."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import agl
from agl.errors import UserError
from agl.preparing.section import Asked
from agl.preparing.sources import visium_hd, xenium
from agl.preparing.sources.summing import summed
from tests.preparing.forms import HEADER


def plain(counts: np.ndarray, spots: np.ndarray, n_spots: int) -> np.ndarray:
    out = np.zeros((n_spots, counts.shape[1]), dtype=int)
    for spot, row in zip(spots, counts, strict=True):
        if spot >= 0:
            out[spot] += row
    return out


@pytest.mark.parametrize("fewest", [1, 7, 128])
def test_sums_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch, fewest: int) -> None:
    monkeypatch.setattr("agl.preparing.sources.summing._FEWEST", fewest)
    rng = np.random.default_rng(0)
    counts, spots = rng.poisson(0.4, (500, 12)), rng.integers(-1, 90, 500)
    parts = [sparse.csr_matrix(counts[start : start + 33]) for start in range(0, 500, 33)]
    found = list(summed(lambda: iter(parts), spots, 90, 12))
    assert len(found) == (-(-90 // max(fewest, 2)))
    np.testing.assert_array_equal(sparse.vstack(found).toarray(), plain(counts, spots, 90))


def test_sums_need_little_memory() -> None:
    """Five million values in 25 blocks are 60 MB; less than half of it suffices, however many blocks there are."""
    rng = np.random.default_rng(0)
    ends = np.arange(0, 200_001, 500, dtype=np.int64)

    def blocks():
        for _ in range(25):
            columns = rng.integers(0, 2_000, 200_000, dtype=np.int32)
            yield sparse.csr_matrix((np.ones(200_000, np.int32), columns, ends), shape=(400, 2_000))

    spots = rng.permutation(np.arange(10_000)) // 2
    tracemalloc.start()
    total = sum(int(block.sum()) for block in summed(blocks, spots, 5_000, 2_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 5_000_000
    assert peak < 30 << 20


SIDE, GENES = 24, 9  # bins a side of the chip; a square of 56 um has 7 bins of 8 um


def write_hd(sample: Path, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """`square_008um` in the order of no place: (positions, barcodes of the matrix, counts)."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    barcodes = np.array([f"s_008um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)])
    inside = ((row - 10) ** 2 + (column - 12) ** 2 < 100).astype(int)
    x, y = 100 + 16.2 * column + 0.3 * row, 90 + 16.2 * row - 0.3 * column  # a little turned, as chips are
    table = pd.DataFrame(dict(zip(HEADER, [barcodes, inside, row, column, y, x], strict=True)))
    folder = sample / "outs/binned_outputs/square_008um"
    (folder / "spatial").mkdir(parents=True)
    table.sample(frac=1, random_state=seed).to_parquet(folder / "spatial/tissue_positions.parquet")
    factors = {"microns_per_pixel": 8 / 16.2, "bin_size_um": 8.0, "spot_diameter_fullres": 16.2}
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(factors))
    order = rng.permutation(np.flatnonzero(inside))
    counts = rng.poisson(0.6, (len(order), GENES))
    stored = sparse.csc_matrix(counts.T)
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as h5:
        group = h5.create_group("matrix")
        group["barcodes"] = barcodes[order].astype("S")
        group["data"], group["indices"], group["indptr"] = stored.data, stored.indices, stored.indptr
        group["shape"] = np.array(stored.shape)
        features = group.create_group("features")
        features["name"] = features["id"] = np.array([f"G{i}" for i in range(GENES)], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * GENES, dtype="S")
    return table, barcodes[order], counts


@pytest.mark.parametrize("times", [2, 7])
def test_squares_of_hd_are_sums_of_their_bins(tmp_path: Path, times: int) -> None:
    table, barcodes, counts = write_hd(tmp_path / "S1")
    agl.prepare(tmp_path / "S1", tmp_path / "out", bin_um=8 * times, progress=False)
    ours = anndata.read_h5ad(tmp_path / "out/adata/S1.h5ad")
    bins = table.set_index("barcode")
    expected: dict[tuple[int, int], np.ndarray] = {}
    for barcode, values in zip(barcodes, counts, strict=True):
        square = (bins.array_row[barcode] // times, bins.array_col[barcode] // times)
        expected[square] = expected.get(square, np.zeros(GENES, int)) + values
    on_tissue = bins.groupby([bins.array_row // times, bins.array_col // times]).in_tissue.mean()
    kept = {square: sums for square, sums in expected.items() if on_tissue[square] >= 0.5}
    squares = list(zip(ours.obs.array_row, ours.obs.array_col, strict=True))
    assert sorted(squares) == sorted(kept)
    np.testing.assert_array_equal(ours.X.toarray(), np.array([kept[square] for square in squares]))
    x = bins.groupby([bins.array_row // times, bins.array_col // times]).pxl_col_in_fullres.mean()
    np.testing.assert_allclose(ours.obsm["spatial"][:, 0], [x[square] for square in squares])
    assert ours.obs_names[0] == f"s_{8 * times:03d}um_{squares[0][0]:05d}_{squares[0][1]:05d}-1"


def test_bins_of_hd_as_they_are(tmp_path: Path) -> None:
    table, barcodes, counts = write_hd(tmp_path / "S1")
    agl.prepare(tmp_path / "S1/outs/binned_outputs/square_008um", tmp_path / "out", bin_um=0, progress=False)
    ours = anndata.read_h5ad(tmp_path / "out/adata/S1.h5ad")
    assert ours.obs_names.tolist() == barcodes.tolist()
    np.testing.assert_array_equal(ours.X.toarray(), counts)
    expected = table.set_index("barcode").loc[barcodes, ["pxl_col_in_fullres", "pxl_row_in_fullres"]]
    np.testing.assert_allclose(ours.obsm["spatial"], expected.to_numpy())


def test_hd_says_what_it_summed_and_what_cannot_be(tmp_path: Path) -> None:
    write_hd(tmp_path / "S1")
    (found,) = visium_hd.find(tmp_path / "S1")
    section = found.read(Asked())
    assert section.pitch_um == 56
    assert any("bins of 8 um were summed into" in remark for remark in section.remarks)
    with pytest.raises(UserError, match=r"bins of 8 um can fill, received --bin-um 30; give a multiple, such as 32\."):
        found.read(Asked(bin_um=30))


N_CELLS = 300


def write_xenium(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(places of the cells in um, counts of genes); control probes and codewords stand among the features."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    cells = np.array([f"aaaa{i:04d}-1" for i in range(N_CELLS)])
    um, counts = rng.uniform(5, 480, (N_CELLS, 2)), rng.poisson(1.0, (N_CELLS, 6))
    kinds = ["Gene Expression"] * 3 + ["Negative Control Probe", "Gene Expression", "Unassigned Codeword"]
    names = ["ERBB2", "ACTB", "MKI67", "NegControlProbe_1", "CD3E", "UnassignedCodeword_7"]
    stored = sparse.csc_matrix(counts.T)
    with h5py.File(folder / "cell_feature_matrix.h5", "w") as h5:
        group = h5.create_group("matrix")
        group["barcodes"] = cells.astype("S")
        group["data"], group["indices"], group["indptr"] = stored.data, stored.indices, stored.indptr
        group["shape"] = np.array(stored.shape)
        features = group.create_group("features")
        features["name"] = features["id"] = np.array(names, dtype="S")
        features["feature_type"] = np.array(kinds, dtype="S")
    table = pd.DataFrame({"cell_id": cells, "x_centroid": um[:, 0], "y_centroid": um[:, 1], "cell_area": 50.0})
    table.sample(frac=1, random_state=1).to_parquet(folder / "cells.parquet")
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    return um, counts[:, [0, 1, 2, 4]]


@pytest.mark.parametrize("side", [55, 100])
def test_cells_are_summed_into_pseudo_spots(tmp_path: Path, side: int) -> None:
    um, counts = write_xenium(tmp_path / "X1")
    agl.prepare(tmp_path / "X1", tmp_path / "out", bin_um=side, progress=False)
    ours = anndata.read_h5ad(tmp_path / "out/adata/X1.h5ad")
    assert ours.var_names.tolist() == ["ERBB2", "ACTB", "MKI67", "CD3E"]
    expected = pd.DataFrame(counts).groupby([um[:, 1] // side, um[:, 0] // side]).sum()
    np.testing.assert_array_equal(ours.X.toarray(), expected.to_numpy())
    places = expected.index.to_frame().to_numpy()[:, ::-1]
    np.testing.assert_allclose(ours.obsm["spatial"], (places + 0.5) * side / 0.2125)


def test_cells_as_they_are_in_an_image_that_was_aligned(tmp_path: Path) -> None:
    """The image is turned by 90 degrees, half as fine and shifted; its matrix takes it back to the morphology image."""
    um, counts = write_xenium(tmp_path / "X1")
    alignment = np.array([[0.0, -2.0, 3000.0], [2.0, 0.0, 40.0], [0.0, 0.0, 1.0]])
    np.savetxt(tmp_path / "X1/he_imagealignment.csv", alignment, delimiter=",")
    (found,) = xenium.find(tmp_path / "X1")
    section = found.read(Asked(bin_um=0))
    np.testing.assert_array_equal(sparse.vstack(list(section.blocks())).toarray(), counts)
    back = section.xy @ alignment[:2, :2].T + alignment[:2, 2]
    np.testing.assert_allclose(back * 0.2125, um)
    assert section.um_per_px == pytest.approx(0.425)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda f: (f / "cells.parquet").unlink(), "Expected cells.parquet in"),
        (lambda f: (f / "cell_feature_matrix.h5").unlink(), "Expected cell_feature_matrix.h5 in"),
        (lambda f: (f / "cells.parquet").write_bytes(b"PAR1half"), "Expected a Parquet table at"),
        (lambda f: pd.read_parquet(f / "cells.parquet")[:200].to_parquet(f / "cells.parquet"), "a place for each cell"),
        (lambda f: (f / "a_imagealignment.csv").write_text("1,2\n3,4\n"), "3 x 3 numbers"),
        (lambda f: (f / "a_imagealignment.csv").write_text("1,2,3\n1,2,3\n0,0,1\n"), "cannot be inverted"),
    ],
)
def test_a_half_copied_folder_of_xenium(tmp_path: Path, spoil, part: str) -> None:
    write_xenium(tmp_path / "X1")
    spoil(tmp_path / "X1")
    done = agl.prepare(tmp_path / "X1", tmp_path / "out", progress=False)
    assert part in done.failed["X1"]
    assert "\n" not in done.failed["X1"]
