"""Several sections in one file are refused by what tells them; what looks a little like it is not."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.h5ad import read_header
from agl.errors import UserError

CORES = ["".join("ACGT"[(i >> (2 * k)) & 3] for k in range(16)) for i in range(40)]


def section(names, *, shift=0.0, turn=0.0):
    """One section on a lattice of 8 columns, its image shifted and turned."""
    n = len(names)
    lattice = np.stack(np.divmod(np.arange(n), 8), axis=1)
    angle = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    obs = pd.DataFrame({"array_row": lattice[:, 0], "array_col": lattice[:, 1]}, index=list(names))
    counts = np.random.default_rng(n).poisson(3.0, size=(n, 5)).astype(np.float32)
    return anndata.AnnData(
        counts,
        obs=obs,
        var=pd.DataFrame(index=[f"G{i}" for i in range(5)]),
        obsm={"spatial": (lattice[:, ::-1] * 100.0) @ angle + shift},
    )


def both(**options):
    """Two sections of the same barcodes, concatenated as scanpy does."""
    parts = [section([f"{c}-1" for c in CORES]), section([f"{c}-1" for c in CORES], shift=2345.0, turn=0.2)]
    return anndata.concat(parts, **options)


def header(adata, tmp_path):
    path = tmp_path / "S1.h5ad"
    adata.write_h5ad(path)
    return read_header("S1", path)


@pytest.mark.parametrize("column", ["library_id", "sample", "Sample ID", "slide_id", "section", "imageid"])
@pytest.mark.parametrize("as_category", [True, False])
def test_the_column_is_named_and_the_way_out(tmp_path, column, as_category):
    adata = both(index_unique="-")
    values = np.repeat(["left", "right"], 40)
    adata.obs[column] = pd.Categorical(values) if as_category else values
    with pytest.raises(UserError) as caught:
        header(adata, tmp_path)
    assert str(caught.value) == (
        f"Expected one tissue section in the file of slide 'S1', obs['{column}'] names 2 (left, right); write one h5ad "
        f"each, such as adata[adata.obs['{column}'].astype(str) == 'left'].write_h5ad('left.h5ad')."
    )
    part = adata[adata.obs[column].astype(str) == "left"].copy()
    part.obs_names = [name[:-2] for name in part.obs_names]
    assert len(header(part, tmp_path).barcodes) == 40  # the way out is one


@pytest.mark.parametrize(
    ("rename", "pair"),
    [
        (lambda core, part: f"{core}-1-{part}", f"({CORES[0]}-1-0 and {CORES[0]}-1-1)"),  # scanpy
        (lambda core, part: f"{core}-1_{part + 1}", f"({CORES[0]}-1_1 and {CORES[0]}-1_2)"),  # Seurat
        (lambda core, part: f"s{part}_{core}-1", f"(s0_{CORES[0]}-1 and s1_{CORES[0]}-1)"),
        (lambda core, part: f"{core}-{part + 1}", f"({CORES[0]}-1 and {CORES[0]}-2)"),  # spaceranger aggr
        (lambda core, part: f"AB{int(core == CORES[0])}{CORES.index(core):012}-1-{part}", "-1-0 and"),
    ],
)
def test_barcodes_that_come_again_with_another_ending(tmp_path, rename, pair):
    adata = both()
    del adata.obs["array_row"]
    adata.obs_names = [rename(core, part) for part in (0, 1) for core in CORES]
    with pytest.raises(UserError, match="barcodes come again with another ending") as caught:
        header(adata, tmp_path)
    assert pair in str(caught.value)


def test_array_positions_that_come_again_elsewhere(tmp_path):
    adata = both()
    adata.obs_names = [f"spot{i}" for i in range(80)]
    with pytest.raises(UserError, match="80 of 80 spots share their array_row and array_col with spots elsewhere"):
        header(adata, tmp_path)


def test_several_images_without_a_column(tmp_path):
    adata = section([f"{c}-1" for c in CORES])
    adata.uns["spatial"] = {name: {"scalefactors": {"tissue_hires_scalef": 0.1}} for name in ("V1", "V2")}
    with pytest.raises(
        UserError, match=r"uns\['spatial'\] has images of 2 \(V1, V2\); write one h5ad .* and its image"
    ):
        header(adata, tmp_path)
    adata.obs["library_id"] = "V1"  # one of them, cut out of a larger object
    assert len(header(adata, tmp_path).barcodes) == 40


def test_one_value_in_library_id_overrides_what_it_looks_like(tmp_path):
    adata = both()
    adata.obs_names = [f"{core}-{part}" for part in (1, 2) for core in CORES]
    adata.obs["library_id"] = "one"
    assert len(header(adata, tmp_path).barcodes) == 80


def plain(adata):
    pass


def one_value(adata):
    adata.obs["sample"] = "S1"
    adata.obs["section"] = pd.Categorical(["S1"] * 40)


def clusters(adata):
    adata.obs["leiden"] = pd.Categorical(np.arange(40) % 5)
    adata.obs["region"] = np.repeat(["tumour", "stroma"], 20)
    adata.obs["batch"] = np.repeat(["0", "1"], 20)


def labels_of_single_spots(adata):
    adata.obs["sample_id"] = [f"x{i}" for i in range(40)]
    adata.obs["slide"] = ["S1"] * 39 + ["s1"]


def missing_values(adata):
    adata.obs["sample"] = ["S1"] * 20 + [None] * 20


def one_image_and_remarks(adata):
    adata.uns["spatial"] = {"V1": {"images": {}}, "is_single": True, "about": {"author": "x"}}


def flat_image(adata):
    adata.uns["spatial"] = {"images": {"hires": np.zeros((2, 2))}, "scalefactors": {"spot": 1.0}}


def lattice_names(adata):
    adata.obs_names = [f"{i // 8}_{i % 8}" for i in range(40)]


def fine_bins(adata):
    adata.obs_names = [f"s_008um_{i // 8:05}_{i % 8:05}-1" for i in range(40)]


def rounded_positions(adata):
    """Cells that were given the lattice position next to them."""
    adata.obsm["spatial"] = adata.obsm["spatial"] + np.random.default_rng(0).uniform(-40, 40, size=(40, 2))
    adata.obs["array_row"], adata.obs["array_col"] = (adata.obs[c] // 2 for c in ("array_row", "array_col"))


def no_positions(adata):
    adata.obs["array_row"] = adata.obs["array_col"] = 0


@pytest.mark.parametrize(
    "change",
    [
        plain,
        one_value,
        clusters,
        labels_of_single_spots,
        missing_values,
        one_image_and_remarks,
        flat_image,
        lattice_names,
        fine_bins,
        rounded_positions,
        no_positions,
    ],
)
def test_no_false_alarm(tmp_path, change):
    adata = section([f"{c}-1" for c in CORES], shift=500.0, turn=0.1)
    change(adata)
    assert len(header(adata, tmp_path).barcodes) == 40


def test_check_says_what_opening_says(tmp_path):
    adata = both(keys=["a", "b"], label="library_id", index_unique="-")
    adata.write_h5ad(tmp_path / "S1.h5ad")
    with pytest.raises(UserError) as caught:
        open_dataset(tmp_path, features="none")
    assert str(caught.value) in [f.message for f in check(tmp_path).findings if f.level == "error"]
