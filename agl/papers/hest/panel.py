"""HEST-bench's rule for the genes of a task. It looks at all samples given, test ones too, if they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from agl.errors import UserError
from agl.genes.variability import seurat_dispersion

PROBES = ("BLANK", "Control")  # not genes


def hest_gene_panel(
    samples: Sequence[tuple[sparse.csr_matrix, Sequence[str]]], *, k: int = 50, min_detection: float = 0.10
) -> list[str]:
    """The k most variable genes among those that every sample detects often enough.

    Genes seen in at least ceil(min_detection * spots) spots of every sample, less control probes; the samples stacked;
    log(1 + raw counts) in float32; Seurat's normalised dispersion; the k largest, in alphabetical order.

    Args:
        samples: `(raw counts [spot, gene], gene names)` of each.

    Returns:
        Gene names: alphabetical (one sample alone keeps its own order, as HEST-bench does). Fewer than k when fewer
        have a dispersion.

    Raises:
        UserError: no samples, names that do not fit the counts or repeat, no common genes.

    Source: Jaume et al., NeurIPS 2024; Satija et al. 2015 (dispersion). Equal to scanpy's selection.

    >>> counts = sparse.csr_matrix(np.array([[0, 5, 1], [9, 5, 2], [1, 5, 1], [4, 5, 3]]))
    >>> hest_gene_panel([(counts, ["noisy", "BLANK_1", "calm"])], k=1)
    ['noisy']
    """
    if not samples:
        raise UserError("Expected at least one sample to choose genes from, received none.")
    tables = [_checked(sparse.csr_matrix(counts), list(genes)) for counts, genes in samples]
    often = [_detected(counts, genes, min_detection) for counts, genes in tables]
    shared = set(often[0]).intersection(*often[1:])
    common = [gene for gene in (often[0] if len(often) == 1 else sorted(shared)) if gene in shared]
    common = [gene for gene in common if not any(word in gene for word in PROBES)]
    if not common:
        raise UserError(f"Expected genes seen in {min_detection:.0%} of the spots of every sample, found none.")
    score = seurat_dispersion(*_moments([_columns(counts, genes, common) for counts, genes in tables]))
    ranked = np.sort(score[~np.isnan(score)])[::-1]
    if len(ranked) == 0:
        raise UserError(f"Expected genes that vary, found none among {len(common)}.")
    threshold = ranked[min(k, len(ranked)) - 1]
    return [gene for gene, value in zip(common, score, strict=True) if value >= threshold][:k]


def _checked(counts: sparse.csr_matrix, genes: list[str]) -> tuple[sparse.csr_matrix, list[str]]:
    if counts.shape[1] != len(genes):
        raise UserError(f"Expected one name a gene ({counts.shape[1]}), received {len(genes)}.")
    if len(set(genes)) < len(genes):
        twice = next(gene for i, gene in enumerate(genes) if gene in genes[:i])
        raise UserError(f"Expected each gene once in a sample, found {twice!r} twice. Make names unique first.")
    return counts, genes


def _detected(counts: sparse.csr_matrix, genes: list[str], share: float) -> list[str]:
    spots = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1])
    return [genes[i] for i in np.flatnonzero(spots >= np.ceil(share * counts.shape[0]))]


def _columns(counts: sparse.csr_matrix, genes: list[str], wanted: list[str]) -> sparse.csr_matrix:
    place = {gene: i for i, gene in enumerate(genes)}
    return counts[:, [place[gene] for gene in wanted]]


def _moments(tables: list[sparse.csr_matrix]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (divisor n - 1) of counts that went to log1p and back in float32, as through scanpy."""
    n_genes, n_spots = tables[0].shape[1], sum(table.shape[0] for table in tables)
    total, squares = np.zeros(n_genes), np.zeros(n_genes)
    for table in tables:
        values = np.expm1(np.log1p(table.data.astype(np.float32))).astype(np.float64)
        total += np.bincount(table.indices, values, n_genes)
        squares += np.bincount(table.indices, values**2, n_genes)
    mean = total / n_spots
    return mean, np.maximum(squares / n_spots - mean**2, 0.0) * (n_spots / max(n_spots - 1, 1))
