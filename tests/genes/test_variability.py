"""Moments and dispersion against NumPy and scanpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from agl.errors import UserError
from agl.genes import priors, variability
from agl.genes.training import TrainingSpots


def scanpy_table(training, *, normalise, per_slide, n_top=20, genes=None):
    import anndata
    import scanpy

    genes = np.arange(training.n_genes) if genes is None else genes
    counts = training.counts if normalise == "none" else training.normalised(np.arange(training.n_spots))
    data = anndata.AnnData(sparse.csr_matrix(counts[:, genes], dtype=np.float64))
    data.obs["slide"] = [str(code) for code in training.slides]
    scanpy.pp.log1p(data)
    scanpy.pp.highly_variable_genes(data, flavor="seurat", n_top_genes=n_top, batch_key="slide" if per_slide else None)
    return data.var


@pytest.mark.parametrize("normalise", ["none", "cp10k"])
@pytest.mark.parametrize("per_slide", [False, True])
def test_dispersion_is_scanpys(spots, normalise, per_slide):
    if per_slide:  # scanpy cannot bin a batch of one spot
        keep = np.flatnonzero(spots.slides != 99)
        spots = TrainingSpots(
            spots.counts[keep], spots.library_size[keep], spots.slides[keep], spots.coords[keep], spots.genes
        )
    theirs = scanpy_table(spots, normalise=normalise, per_slide=per_slide)["dispersions_norm"].to_numpy()
    ours = priors.dispersion(spots, normalise=normalise, per_slide=per_slide)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)  # scanpy keeps float32 here and there


def test_dispersion_of_many_genes_has_scanpys_top_50(planted):
    training = planted(3, kinds=(300, 300, 300)).candidates.training
    table = scanpy_table(training, normalise="none", per_slide=False, n_top=50)
    ours = priors.dispersion(training)
    assert set(np.argsort(-ours)[:50]) == set(np.flatnonzero(table["highly_variable"]))


def test_a_gene_alone_in_its_bin_has_one_and_a_constant_gene_nan():
    mean, variance = np.array([0.1, 0.12, 0.11, 50.0, 0.0, 3.0]), np.array([1.0, 2.0, 3.0, 60.0, 0.0, 0.0])
    result = variability.seurat_dispersion(mean, variance)
    d = np.log(variance[:3] / mean[:3])
    np.testing.assert_allclose(result[:3], (d - d.mean()) / d.std(ddof=1), rtol=1e-12)
    assert result[3] == 1.0
    assert np.isnan(result[4:]).all()


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, (7, 4), elements=st.integers(0, 30)), st.integers(1, 8))
def test_moments_are_numpys_in_any_block_size(counts, block):
    before = variability.TrainingSpots.blocks
    training = TrainingSpots(
        sparse.csr_matrix(counts), counts.sum(1) + 1, np.zeros(7, int), np.zeros((7, 2)), tuple("ABCD")
    )

    def blocks(self, rows=None):
        every = np.arange(self.n_spots) if rows is None else rows
        return (every[i : i + block] for i in range(0, len(every), block))

    try:
        TrainingSpots.blocks = blocks
        for scale, dense in {
            "none": counts.astype(float),
            "cp10k": counts * 1e4 / (counts.sum(1) + 1)[:, None],
            "log": np.log1p(counts * 1e4 / (counts.sum(1) + 1)[:, None]),
        }.items():
            mean, variance = variability.moments(training, scale=scale)
            np.testing.assert_allclose(mean, dense.mean(0), rtol=1e-12)
            np.testing.assert_allclose(variance, dense.var(0, ddof=1), rtol=1e-9, atol=1e-9 * (1 + dense.max() ** 2))
    finally:
        TrainingSpots.blocks = before


def test_variance_of_one_spot_is_undefined(spots):
    assert np.isnan(variability.moments(spots, np.array([3]))[1]).all()


@pytest.mark.parametrize("call", [priors.dispersion, priors.mean, priors.variance])
def test_a_wrong_scale_is_refused_with_a_hint(spots, call):
    with pytest.raises(UserError, match=r"cp10k.*received 'cpl0k'.*Did you mean 'cp10k'"):
        call(spots, normalise="cpl0k")
