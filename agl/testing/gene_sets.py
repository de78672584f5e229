"""Does a prior, a primary rule or a gene set fit? For ours, and for yours.

>>> from agl.genes import sets
>>> check_gene_set(sets.top, prior="mean", k=5)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from agl.genes.candidates import Candidates
from agl.genes.training import TrainingSpots


def example_training(
    seed: int = 0, *, n_spots: int = 90, n_genes: int = 40, n_slides: int = 3, constant: int = 2
) -> TrainingSpots:
    """A few spots on a lattice with co-varying genes; the last `constant` genes have no counts at all."""
    rng = np.random.default_rng(seed)
    slides = np.sort(rng.integers(0, n_slides, n_spots))
    slides[:n_slides] = np.arange(n_slides)  # none is empty; their order is nobody's business
    programmes = rng.standard_normal((n_spots, 3))
    loadings = rng.standard_normal((3, n_genes)) * (rng.random((3, n_genes)) < 0.5)
    rate = rng.gamma(2.0, 2.0, n_genes) * np.exp(0.5 * programmes @ loadings) * rng.gamma(4.0, 0.25, (n_spots, 1))
    counts = rng.poisson(rate)
    counts[:, n_genes - constant :] = 0
    coords = np.stack([np.arange(n_spots) % 10, np.arange(n_spots) // 10], axis=1) * 100.0
    library = counts.sum(axis=1) + rng.integers(1, 50, n_spots)  # genes beside these were measured too
    names = tuple(f"GENE{i}" for i in range(n_genes))
    return TrainingSpots(sparse.csr_matrix(counts.astype(np.int32)), library, slides, coords, names, programmes)


def example_candidates(seed: int = 0, *, n_genes: int = 40, n_primary: int = 8, n_aux: int | None = None) -> Candidates:
    """Candidates over `example_training`: the first genes are primary, `n_aux` of the others are candidates."""
    training = example_training(seed, n_genes=n_genes)
    auxiliary = np.arange(n_primary, n_genes)
    return Candidates(training, np.arange(n_primary), auxiliary if n_aux is None else auxiliary[:n_aux])


def permuted(candidates: Candidates, order: np.ndarray) -> Candidates:
    """The same candidates in another order."""
    return Candidates(candidates.training, candidates.primary, candidates.auxiliary[order])


def shuffled_spots(training: TrainingSpots, rng: np.random.Generator) -> TrainingSpots:
    """The same spots in another order."""
    order = rng.permutation(training.n_spots)
    return TrainingSpots(
        training.counts[order],
        training.library_size[order],
        training.slides[order],
        training.coords[order],
        training.genes,
        None if training.features is None else training.features[order],
    )


def check_prior(prior: Callable[..., np.ndarray], **options: Any) -> None:
    """Assert the contract of a prior: shape, precision, repeatable, blind to the order of spots, inputs untouched."""
    training, primary = example_training(), np.arange(8)
    before = training.counts.copy()
    values = prior(training, primary=primary, **options)
    assert isinstance(values, np.ndarray), f"Expected a NumPy array, received {type(values).__name__}."
    assert values.shape == (training.n_genes,), f"Expected shape ({training.n_genes},), received {values.shape}."
    assert values.dtype == np.float64, f"Expected float64, received {values.dtype}."
    assert not np.isinf(values).any(), "Expected NaN for undefined genes, received infinite values."
    assert not np.isnan(values[:-2]).any(), "Expected a value for every gene that varies, received NaN."
    again = prior(training, primary=primary, **options)
    np.testing.assert_array_equal(values, again, "Expected the same prior from the same spots, received another.")
    other = prior(shuffled_spots(training, np.random.default_rng(1)), primary=primary, **options)
    np.testing.assert_allclose(
        values, other, rtol=1e-7, atol=1e-9, err_msg="Expected a prior that does not depend on the order of the spots."
    )
    assert (before != training.counts).nnz == 0, "Expected the counts untouched; copy them before changing them."


def check_primary_rule(rule: Callable[..., np.ndarray], *, k: int | None = 5, **options: Any) -> None:
    """Assert the contract of a primary rule: k distinct positions of genes that vary, repeatable."""
    training = example_training()
    arguments = options if k is None else {"k": k, **options}
    chosen = rule(training, **arguments)
    assert isinstance(chosen, np.ndarray), f"Expected a NumPy array, received {type(chosen).__name__}."
    assert chosen.dtype == np.int64, f"Expected int64 gene positions, received {chosen.dtype}."
    assert chosen.ndim == 1, f"Expected one dimension, received shape {chosen.shape}."
    assert len(np.unique(chosen)) == len(chosen), "Expected every gene once, received repeated genes."
    assert k is None or len(chosen) == k, f"Expected {k} genes, received {len(chosen)}."
    assert ((chosen >= 0) & (chosen < training.n_genes)).all(), "Expected positions of the genes of the data."
    assert k is None or (training.detection[chosen] > 0).all(), "Expected genes that are detected somewhere."
    np.testing.assert_array_equal(chosen, rule(training, **arguments), "Expected the same genes from the same spots.")
    other = rule(shuffled_spots(training, np.random.default_rng(1)), **arguments)
    assert set(chosen) == set(other), "Expected a rule that does not depend on the order of the spots."


def check_gene_set(gene_set: Callable[..., np.ndarray], *, equivariant: bool = True, **options: Any) -> None:
    """Assert the contract of a gene set: weights `[aux]` in [0, 1], repeatable, and no candidates are no problem.

    `equivariant=False` for a set that draws at random: the order of the candidates may then matter.
    """
    candidates = example_candidates()
    weights = gene_set(candidates, **options)
    assert isinstance(weights, np.ndarray), f"Expected a NumPy array, received {type(weights).__name__}."
    assert weights.shape == (len(candidates),), f"Expected one weight per candidate, received shape {weights.shape}."
    assert weights.dtype == np.float32, f"Expected float32, received {weights.dtype}."
    assert ((weights >= 0) & (weights <= 1)).all(), "Expected weights in [0, 1], received others (or NaN)."
    again = gene_set(example_candidates(), **options)
    np.testing.assert_array_equal(weights, again, "Expected the same set from the same spots; seed what is random.")
    if equivariant:
        order = np.random.default_rng(2).permutation(len(candidates))
        moved = gene_set(permuted(candidates, order), **options)
        np.testing.assert_allclose(
            moved, weights[order], atol=1e-6, err_msg="Expected the weights to follow their genes to another order."
        )
    for n_aux in (0, 1):
        few = gene_set(example_candidates(n_aux=n_aux), **options)
        assert few.shape == (n_aux,), f"Expected {n_aux} weights for {n_aux} candidates, received {few.shape}."
