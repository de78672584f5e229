"""Tables of AnnData read column by column: every encoding, against what anndata itself reads."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from agl.data.dataset import open_dataset
from agl.data.reading.columns import ColumnTable
from agl.data.reading.h5ad import read_header
from agl.errors import UserError


@pytest.fixture
def table(tmp_path):
    """`table(columns)` written by anndata, read by both."""

    def write(columns, index=("a", "b", "c", "d")):
        path = tmp_path / "t.h5ad"
        anndata.AnnData(np.zeros((4, 1)), obs=pd.DataFrame(columns, index=list(index))).write_h5ad(path)
        return ColumnTable(h5py.File(path), "obs", "S1"), anndata.read_h5ad(path).obs

    return write


TEXT = {
    "strings": ["x", "y ", "", "ü"],
    "categories": pd.Categorical(["x", None, "y", "x"]),
    "ordered": pd.Categorical([3, 1, 2, 3], ordered=True),
    "numbers_as_categories": pd.Categorical([0.5, 1.5, None, 0.5]),
    "true_or_false": [True, False, True, True],
    "nullable": pd.array([1, None, 3, 4], dtype="Int64"),
    "nullable_bool": pd.array([True, None, False, True], dtype="boolean"),
    "whole": [1, 2, 3, 4],
}


@pytest.mark.parametrize("name", TEXT)
def test_text_is_what_anndata_reads(table, name):
    ours, theirs = table({name: TEXT[name]})
    expected = ["" if pd.isna(value) else str(value).strip() for value in theirs[name]]
    assert ours.text(name).tolist() == expected


@pytest.mark.parametrize("name", [*TEXT, "fractions", "digits"])
def test_numbers_are_what_pandas_makes_of_them(table, name):
    ours, theirs = table(
        {name: {**TEXT, "fractions": [0.5, np.nan, np.inf, -1], "digits": ["1", "2.5", "", "x"]}[name]}
    )
    expected = pd.to_numeric(pd.Series(theirs[name].astype(object)), errors="coerce").astype(float)
    np.testing.assert_array_equal(ours.numbers(name), expected)


def test_names_and_index(table):
    ours, theirs = table({"b": [1, 2, 3, 4], "a": list("wxyz")}, index=("c1", "c2", "c3", "c4"))
    assert set(ours.names) == set(theirs.columns)
    assert ours.index.tolist() == theirs.index.tolist()
    assert (len(ours), "a" in ours, "_index" in ours, "c" in ours) == (4, True, False, False)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([7, 8, 9], ["7", "8", "9"]),
        ([0.5, 1.5, 2.5], ["0.5", "1.5", "2.5"]),
        ([b"G\xe9ne", b"G\xe8ne", b"ok"], ["G\\xe9ne", "G\\xe8ne", "ok"]),  # Latin-1: different names stay different
        (np.array([b"a", b"bb", b""], "S4"), ["a", "bb", ""]),
    ],
)
def test_row_names_of_every_type(tmp_path, values, read):
    with h5py.File(tmp_path / "t.h5", "w") as h5:
        h5["obs/index"] = values
        assert ColumnTable(h5, "obs", "S1").index.tolist() == read


def test_categories_before_anndata_0_8(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as h5:
        h5.create_group("obs").attrs["_index"] = b"names"
        h5["obs/names"], h5["obs/patient"] = [b"a", b"b", b"c"], np.array([1, -1, 0], np.int8)
        h5["obs/__categories/patient"] = [b"P1", b"P2"]
        table = ColumnTable(h5, "obs", "S1")
        assert table.names == ("patient",)
        assert table.text("patient").tolist() == ["P2", "", "P1"]


def unknown_encoding(obs, name):
    obs.pop(name, None)
    obs.create_group(name).attrs["encoding-type"] = "awkward-array"


def nested_table(obs, name):
    obs.pop(name, None)
    obs.create_group(name)["x"] = np.zeros(3)


def records(obs, name):
    obs.pop(name, None)
    obs[name] = np.zeros(12, [("a", "i4"), ("b", "f4")])


def another_length(obs, name):
    obs.pop(name, None)
    obs[name] = np.zeros(5)


def codes_without_category(obs, name):
    obs.pop(name, None)
    obs[f"{name}/codes"], obs[f"{name}/categories"] = np.full(12, 9), [b"x"]


def far_too_long(obs, name):
    obs.pop(name, None)
    obs.create_dataset(name, shape=(10**12,), chunks=(10**6,), dtype="f8")


FAULTS = [unknown_encoding, nested_table, records, another_length, codes_without_category, far_too_long]


@pytest.mark.parametrize("name", ["nobody_needs_it", "leiden"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_column_that_nobody_needs_does_no_harm(tmp_path, make_slide, write_h5ad, fault, name):
    path = write_h5ad(tmp_path / "S1.h5ad", make_slide("S1"))
    with h5py.File(path, "a") as h5:
        fault(h5["obs"], name)
        fault(h5["var"], name)
    assert len(read_header("S1", path).barcodes) == 12
    assert open_dataset(path, features="none").counts.shape == (12, 6)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            unknown_encoding,
            r"obs\['array_row'\] of slide 'S1' as numbers, .* received another encoding \(awkward-array\)",
        ),
        (nested_table, r"received another encoding \(none named\); turn the column into text"),
        (another_length, r"Expected 12 values in obs\['array_row'\] of slide 'S1', received 5; write the file again"),
        (codes_without_category, r"Expected categories numbered from 0 to 0 in obs\['array_row'\]"),
        (far_too_long, r"'obs/array_row' in .*S1\.h5ad declares 7\.28 TB in 0 bytes"),
    ],
)
def test_a_column_that_is_needed_is_named(tmp_path, make_slide, write_h5ad, fault, sentence):
    path = write_h5ad(tmp_path / "S1.h5ad", make_slide("S1"))
    with h5py.File(path, "a") as h5:
        fault(h5["obs"], "array_row")
    with pytest.raises(UserError, match=sentence):
        read_header("S1", path)


def test_coordinates_in_a_table(tmp_path, make_slide, write_h5ad):
    slide = make_slide("S1")
    path = write_h5ad(tmp_path / "S1.h5ad", slide)
    adata = anndata.read_h5ad(path)
    adata.obsm["spatial"] = pd.DataFrame({"x": slide.xy[:, 0], "a_y": slide.xy[:, 1]}, index=adata.obs_names)
    adata.write_h5ad(path)  # HDF5 lists a_y first
    np.testing.assert_array_equal(read_header("S1", path).xy, slide.xy)


@pytest.mark.parametrize(
    "values", [[[b"a", b"b"]] * 12, np.zeros(12), np.zeros((12, 1)), np.zeros((5, 2)), np.zeros(12, "c8")]
)
def test_coordinates_that_are_none(tmp_path, make_slide, write_h5ad, values):
    path = write_h5ad(tmp_path / "S1.h5ad", make_slide("S1"))
    with h5py.File(path, "a") as h5:
        del h5["obsm/spatial"]
        h5["obsm/spatial"] = values
    with pytest.raises(
        UserError, match=r"Expected numbers of shape \[12, 2\] in obsm\['spatial'\] of slide 'S1', received"
    ):
        read_header("S1", path)


@pytest.mark.parametrize(
    "names", [["ERBB2", "ERBB2", "", "7", "8", "9"], list("123456"), ["é", "è", "a b", "c,d", "<b>", "\n"]]
)
def test_gene_names_of_every_kind(tmp_path, make_slide, write_h5ad, names):
    path = write_h5ad(tmp_path / "S1.h5ad", make_slide("S1"))
    with h5py.File(path, "a") as h5:
        del h5["var/_index"]
        h5["var/_index"] = names
    dataset = open_dataset(path, features="none")
    assert set(dataset.genes) == {name.strip() for name in names} - {""}
