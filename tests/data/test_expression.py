"""The three forms of log expression agree with scanpy and with each other; ties stay ties."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from agl.data.expression import expression, log_expression, sparse_expression


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).negative_binomial(1, 0.2, size=(30, 7))


def test_as_scanpy_does_it(counts):
    scanpy = pytest.importorskip("scanpy")
    table = anndata.AnnData(counts.astype(np.float64))
    scanpy.pp.normalize_total(table, target_sum=1e4)
    scanpy.pp.log1p(table)
    np.testing.assert_allclose(log_expression(counts, counts.sum(1)), table.X, rtol=1e-12)


def test_three_forms_are_one_to_the_last_bit(counts):
    library = counts.sum(1) + 3
    library[4] = 0
    found = log_expression(counts, library)
    assert np.isnan(found[4]).all()
    np.testing.assert_array_equal(log_expression(sparse.csr_matrix(counts), library), found)
    np.testing.assert_array_equal(expression(torch.from_numpy(counts).float(), library).numpy(), found)
    as_sparse = sparse_expression(sparse.csr_matrix(counts), library)
    assert as_sparse.nnz == np.count_nonzero(counts)
    np.testing.assert_array_equal(as_sparse.toarray(), np.nan_to_num(found, nan=0.0))
    linear = sparse_expression(sparse.csr_matrix(counts), library, log=False, depth=100.0)
    np.testing.assert_allclose(linear.toarray()[:4], 100 * counts[:4] / library[:4, None])


def test_the_counts_given_stay_as_they_are(counts):
    given = sparse.csr_matrix(counts.astype(np.float64))
    sparse_expression(given, counts.sum(1))
    np.testing.assert_array_equal(given.toarray(), counts)


def test_spots_of_equal_share_tie():
    """k of 3k, for every k: rounding must not rank them."""
    k = np.arange(1, 2000)
    assert len(np.unique(log_expression(k[:, None], 3 * k))) == 1
    assert len(np.unique(sparse_expression(sparse.csr_matrix(k[:, None]), 3 * k).data)) == 1
    assert len(torch.unique(expression(torch.from_numpy(k[:, None]), 3 * k))) == 1
