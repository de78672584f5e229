"""log(1 + 10^4 counts / library size): expression as scores are compared with it and priors measure it.

One formula in three forms: dense, sparse, and as a tensor. Counts times the depth are whole numbers and exact, so two
spots of equal share have equal expression, to the last bit: a tie stays a tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from torch import Tensor

DEPTH = 1e4  # counts a spot is scaled to before the logarithm


def log_expression(counts: Any, library_size: np.ndarray, *, depth: float = DEPTH) -> np.ndarray:
    """log(1 + depth counts / library size), float64 `[spot, gene]`; NaN for a spot without counts.

    Args:
        counts: raw counts `[spot, gene]`, dense or sparse.
        library_size: `[spot]` total over all genes.

    >>> log_expression(np.array([[1, 0]]), np.array([10_000])).round(4)
    array([[0.6931, 0.    ]])
    """
    return np.log1p(_scaled(dense(counts), _measured(library_size)[:, None], depth))


def expression(counts: Tensor, library_size: np.ndarray, *, depth: float = DEPTH) -> Tensor:
    """`log_expression` of a tensor, float64 `[spot, gene]`.

    >>> import torch
    >>> expression(torch.tensor([[1], [0]]), np.array([10_000, 0])).flatten().tolist()
    [0.6931471805599453, nan]
    """
    import torch

    totals = torch.from_numpy(_measured(library_size))[:, None].to(counts.device)
    return torch.log1p(_scaled(counts.double(), totals, depth))


def sparse_expression(
    counts: sparse.csr_matrix, library_size: np.ndarray, *, depth: float = DEPTH, log: bool = True
) -> sparse.csr_matrix:
    """`log_expression` where zeros stay zeros: float64 `[spot, gene]`, sparse; a spot without counts is 0.

    Args:
        log: False leaves the logarithm away.

    >>> sparse_expression(sparse.csr_matrix([[1, 0], [0, 0]]), np.array([10_000, 0])).toarray().round(4).tolist()
    [[0.6931, 0.0], [0.0, 0.0]]
    """
    out = counts.astype(np.float64)
    library = np.repeat(_measured(library_size), np.diff(out.indptr))
    out.data = np.nan_to_num(_scaled(out.data, library, depth), copy=False, nan=0.0)
    if log:
        np.log1p(out.data, out=out.data)
    return out


def dense(counts: Any) -> np.ndarray:
    """float64 `[spot, gene]` from dense or sparse counts."""
    table = counts.toarray() if sparse.issparse(counts) else counts
    return np.asarray(table, dtype=np.float64)


def _scaled(counts: Any, library: Any, depth: float) -> Any:
    return depth * counts / library


def _measured(library_size: np.ndarray) -> np.ndarray:
    """float64 `[spot]` library sizes, NaN where nothing was counted."""
    totals = np.asarray(library_size, dtype=np.float64)
    return np.where(totals > 0, totals, np.nan)
