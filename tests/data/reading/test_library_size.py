"""Totals over all genes where a file keeps only some: recorded ones are believed, and checked."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.counts import count_blocks
from agl.data.reading.h5ad import read_header
from agl.data.reading.library_size import library_sizes
from agl.errors import UserError


def record(root, values, slide="S1", column="library_size"):
    """Write `obs[column]` into a slide's file."""
    path = root / "adata" / f"{slide}.h5ad"
    adata = anndata.read_h5ad(path)
    adata.obs[column] = values
    adata.write_h5ad(path)
    return path


def test_recorded_totals_are_taken_and_said_so(task):
    root, slides = task()
    stored = slides[0].counts.sum(1)
    before = open_dataset(root, features="uni")
    record(root, stored + np.arange(12))
    dataset = open_dataset(root, features="uni")
    np.testing.assert_array_equal(dataset.library_size[:12], stored + np.arange(12))
    np.testing.assert_array_equal(dataset.library_size[12:], slides[1].counts.sum(1))
    assert dataset.library_size.dtype == np.int64
    assert (dataset.counts != before.counts).nnz == 0
    assert dataset.key != before.key
    sources = {name: found["library_size_source"] for name, found in dataset.report["sections"].items()}
    assert sources == {"S1": "obs['library_size']", "S2": "all genes in the file"}
    assert dataset.report["sections"]["S1"]["median_counts"] == np.median(stored + np.arange(12))
    report = check(root, features="uni")
    assert report.status != "error"
    assert report.will_use["library size"] == "from all genes in the file or obs['library_size']"
    assert report.sections[0].counts_max == (stored + np.arange(12)).max()


def test_cutting_genes_changes_nothing_else(task, make_slide, write_h5ad):
    """What the column is for: the cut file gives the library sizes of the whole one."""
    whole = make_slide("S1", n_spots=40)
    root, _ = task([whole])
    before = open_dataset(root, features="uni")
    path = root / "adata" / "S1.h5ad"
    adata = anndata.read_h5ad(path)
    cut = adata[:, ["ACTB", "KRT5"]].copy()
    cut.obs["library_size"] = whole.counts.sum(1)
    cut.write_h5ad(path)
    after = open_dataset(root, features="uni")
    np.testing.assert_array_equal(after.library_size, before.library_size)
    positions = before.gene_positions(["ACTB", "KRT5"])
    np.testing.assert_array_equal(after.counts.toarray(), before.counts[:, positions].toarray())


def test_every_block_takes_its_own_spots(task):
    root, slides = task()
    recorded = slides[0].counts.sum(1) * 3
    header = read_header("S1", record(root, recorded))
    is_gene = np.ones(6, bool)
    parts = [library_sizes(header, start, block, is_gene) for start, block in count_blocks(header, 20)]
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate(parts), recorded)


def test_few_counts_are_judged_by_the_recorded_total(task):
    root, slides = task()
    record(root, np.where(np.arange(12) < 5, slides[0].counts.sum(1), 10_000))
    dataset = open_dataset(root, features="uni", min_counts=5_000, sections=["S1"])
    assert dataset.spots["barcode"].tolist() == slides[0].barcodes[5:]


def test_whole_numbers_in_another_type_will_do(task):
    root, slides = task()
    record(root, (slides[0].counts.sum(1) + 7).astype(np.float32))
    dataset = open_dataset(root, features="uni", sections=["S1"])
    np.testing.assert_array_equal(dataset.library_size, slides[0].counts.sum(1) + 7)


@pytest.mark.parametrize("wrong", [0.5, -1.0, np.nan, np.inf, 1e300])
def test_what_is_no_total_is_named_with_its_spot(task, wrong):
    root, slides = task()
    values = slides[0].counts.sum(1).astype(float)
    values[4] = wrong
    record(root, values)
    sentence = (
        rf"Expected whole numbers from 0 in obs\['library_size'\] of slide 'S1', spot {slides[0].barcodes[4]} has"
    )
    with pytest.raises(UserError, match=sentence):
        open_dataset(root, features="uni")
    report = check(root, features="uni")
    assert [f.slide for f in report.findings if f.level == "error" and "whole numbers" in f.message] == ["S1"]


def test_a_total_below_the_counts_in_the_file(task):
    root, slides = task()
    values = slides[0].counts.sum(1)
    values[4] -= 1
    record(root, values)
    sentence = rf"spot {slides[0].barcodes[4]} has {values[4]} and {values[4] + 1} counts in the file; give the total"
    with pytest.raises(UserError, match=sentence):
        open_dataset(root, features="uni")
    assert check(root, features="uni").status == "error"


def test_words_are_no_totals(task):
    root, _ = task()
    record(root, ["many"] * 12)
    with pytest.raises(UserError, match=r"has many \(12 such spots\); .* or rename the column"):
        open_dataset(root, features="uni")
