"""Tissue maps: ranks, pictures, and names that do not exist."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from agl.analysis.results import read_predictions, read_results
from agl.data.images.thumbnails import find_thumbnail
from agl.errors import UserError
from agl.reporting.figures.maps import draw_maps, map_of, percent_ranks
from agl.runs.folder import find_runs


def test_ranks_are_scipys_from_zero_to_one() -> None:
    values = np.random.default_rng(0).integers(0, 4, (20, 3)).astype(float)
    slow = np.column_stack([(stats.rankdata(column) - 1) / 19 for column in values.T])
    assert percent_ranks(values) == pytest.approx(slow)
    assert percent_ranks(np.ones((1, 2))).tolist() == [[0.5, 0.5]]


def test_the_two_pictures_correlate_as_the_score_says(runs: Path) -> None:
    run = find_runs(runs)[0]
    saved = read_predictions(run.folder)
    found = map_of(saved, str(saved.slide[0]), ["GENE5", "GENE2"])
    table = pd.read_csv(run.folder / "per_gene.csv").set_index(["slide", "gene"])
    for i, gene in enumerate(["GENE5", "GENE2"]):
        r = np.corrcoef(found.observed[:, i], found.predicted[:, i])[0, 1]
        assert r == pytest.approx(table.scc[(saved.slide[0], gene)], abs=1e-6)


def test_default_maps_show_high_middle_and_low_genes(runs: Path, tmp_path: Path) -> None:
    results = read_results(find_runs(runs))
    drawn, notes = draw_maps(results, results.blocks[0], "mse", tmp_path, slides=["S3"])
    assert notes == []
    data = pd.read_csv(tmp_path / f"{drawn[0].name}.csv")
    cells = results.cells[(results.cells.method == "mse") & (results.cells.slide == "S3")]
    order = cells.sort_values("scc", ascending=False).gene.tolist()
    assert list(dict.fromkeys(data.gene)) == [order[0], order[6], order[-1]]
    assert set(data.columns) == {"barcode", "x", "y", "gene", "observed", "predicted"}


def test_names_that_do_not_exist(runs: Path, tmp_path: Path) -> None:
    results = read_results(find_runs(runs))
    with pytest.raises(UserError, match=r"received 'GENE33'\. Did you mean 'GENE3'\?"):
        draw_maps(results, results.blocks[0], "mse", tmp_path, genes=["GENE33"])
    with pytest.raises(UserError, match=r"test slide of these runs, received 'T3'\."):
        draw_maps(results, results.blocks[0], "mse", tmp_path, slides=["T3"])


def test_missing_predictions_cost_the_map_only(runs: Path, tmp_path: Path) -> None:
    for run in find_runs(runs):
        (run.folder / "predictions.npz").unlink()
    results = read_results(find_runs(runs))
    drawn, notes = draw_maps(results, results.blocks[0], "mse", tmp_path, slides=["S3"])
    assert drawn == []
    assert "found none. Train that run again to draw its maps." in notes[0]


def section(root: Path, **uns: object) -> np.ndarray:
    (root / "adata").mkdir(parents=True)
    xy = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 200.0], [100.0, 200.0]])
    table = anndata.AnnData(np.ones((4, 1), np.float32), obs=pd.DataFrame(index=list("abcd")), uns=dict(uns))
    table.obsm["spatial"] = xy
    table.obsm["spatial_image"] = xy[:, ::-1] * 2 + 10  # another orientation: the fit has to find it
    table.write_h5ad(root / "adata" / "S.h5ad")
    return xy


def test_a_picture_beside_the_data_is_placed_by_its_spots(tmp_path: Path) -> None:
    xy = section(tmp_path, thumbnail_scale=0.5)
    (tmp_path / "thumbnails").mkdir()
    Image.new("RGB", (300, 200), (200, 100, 150)).save(tmp_path / "thumbnails" / "S.jpg")
    found = find_thumbnail(str(tmp_path), "S", xy[:, 0], xy[:, 1], np.array(list("abcd")))
    assert found is not None
    assert found.pixels.shape == (200, 300, 3)
    assert found.place(xy[:, 0], xy[:, 1]) == pytest.approx(xy[:, ::-1] + 5, abs=1e-6)


def test_a_picture_inside_the_data_and_a_large_one(tmp_path: Path) -> None:
    picture = np.zeros((1800, 400, 3), np.uint8)
    images = {"images": {"hires": picture}, "scalefactors": {"tissue_hires_scalef": 0.5}}
    xy = section(tmp_path, spatial={"library": images})
    found = find_thumbnail(str(tmp_path), "S", xy[:, 0], xy[:, 1], np.array(list("abcd")))
    assert found is not None
    assert found.pixels.shape == (900, 200, 3)
    assert found.place(xy[:, 0], xy[:, 1]) == pytest.approx(xy * 0.25)


def test_no_picture_is_no_error(tmp_path: Path) -> None:
    xy = section(tmp_path)
    spots = (xy[:, 0], xy[:, 1], np.array(list("abcd")))
    assert find_thumbnail(str(tmp_path), "S", *spots) is None
    assert find_thumbnail(str(tmp_path), "T", *spots) is None
    assert find_thumbnail(None, "S", *spots) is None
    (tmp_path / "adata" / "S.h5ad").write_bytes(b"not an h5ad")
    assert find_thumbnail(str(tmp_path), "S", *spots) is None


def test_spots_lie_on_the_tissue_of_the_real_sections() -> None:
    root = Path(os.environ.get("AGL_HER2ST", Path(__file__).resolve().parents[2].parent / "shared/data/her2st"))
    if not (root / "thumbnails").is_dir():
        pytest.skip("the HER2ST sections are not here; set AGL_HER2ST")
    table = anndata.read_h5ad(root / "adata" / "C2.h5ad")
    x, y = table.obsm["spatial"].T
    found = find_thumbnail(str(root), "C2", x, y, np.array(table.obs_names))
    assert found is not None
    column, row = found.place(x, y).T
    height, width = found.pixels.shape[:2]
    assert ((column > 0) & (column < width) & (row > 0) & (row < height)).all()
    at_spots = found.pixels[row.astype(int), column.astype(int)].mean()
    assert at_spots < found.pixels.mean() - 5  # stained tissue is darker than the picture's average
