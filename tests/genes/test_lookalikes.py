"""Predictability without training: by plain loops, on planted genes, and against its permutation null."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from agl.errors import UserError
from agl.genes.lookalikes import feature_autocorrelation, permutation_p
from agl.genes.training import TrainingSpots


def planted(seed: int, *, slides: int = 3, spots: int = 40) -> TrainingSpots:
    """Gene 0 follows the first feature on every slide; gene 1 the slide alone; gene 2 nothing; gene 3 is constant."""
    rng = np.random.default_rng(seed)
    n = slides * spots
    codes = np.repeat(np.arange(slides), spots)
    features = rng.normal(size=(n, 2)) + 5 * codes[:, None]
    own = features[:, 0] - 5 * codes
    rate = np.column_stack([20 * np.exp(own), 20.0 * (1 + codes), np.full(n, 20.0), np.zeros(n)])
    counts = rng.poisson(rate)
    return TrainingSpots(
        sparse.csr_matrix(counts), np.full(n, 10_000), codes, np.zeros((n, 2)), tuple("wxyz"), features
    )


def slow(training: TrainingSpots, neighbours: int) -> list[float]:
    def scaled(values: np.ndarray) -> np.ndarray:
        out = values.astype(float).copy()
        for code in set(training.slides):
            here = training.slides == code
            out[here] = (out[here] - out[here].mean()) / (out[here].std() or 1.0)
        return out

    features = np.column_stack([scaled(column) for column in training.features.T])
    found = []
    for gene in range(training.n_genes):
        counts = training.counts[:, [gene]].toarray().ravel()
        z = scaled(np.log1p(1e4 * counts / training.library_size))
        total = 0.0
        for i in range(len(z)):
            others = [j for j in range(len(z)) if training.slides[j] != training.slides[i]]
            others.sort(key=lambda j: float(((features[i] - features[j]) ** 2).sum()))
            total += z[i] * np.mean([z[j] for j in others[:neighbours]])
        found.append(total / (z**2).sum() if (z**2).sum() else np.nan)
    return found


def test_it_is_the_slow_loop() -> None:
    training = planted(0, spots=15)
    np.testing.assert_allclose(feature_autocorrelation(training, neighbours=4), slow(training, 4), atol=1e-10)


def test_what_carries_over_is_told_from_what_does_not() -> None:
    training = planted(1)
    found, p = feature_autocorrelation(training), permutation_p(training, permutations=39)
    assert found[0] > 0.6
    assert abs(found[1]) < 0.2  # differs between slides only, which no rank inside a slide sees
    assert p[0] == 1 / 40
    assert p[2] > 0.05
    assert np.isnan([found[3], p[3]]).all()


def test_the_null_is_uniform_where_there_is_nothing() -> None:
    """40 genes without a tie to the picture: as many p below 0.2 as chance has it."""
    training = planted(2)
    noise = np.random.default_rng(0).poisson(9.0, (training.n_spots, 40))
    names = tuple(f"g{i}" for i in range(40))
    p = permutation_p(replace(training, counts=sparse.csr_matrix(noise), genes=names), permutations=49)
    assert 0.03 < np.mean(p <= 0.2) < 0.42


def test_a_single_slide_is_compared_with_itself_but_no_spot_is() -> None:
    training = planted(3, slides=1, spots=60)
    assert feature_autocorrelation(training, neighbours=5)[0] > 0.5
    assert abs(feature_autocorrelation(training, neighbours=5)[2]) < 0.35


def test_without_features_it_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"Expected image features for the prior 'predictability', received none\."):
        feature_autocorrelation(replace(planted(0), features=None))
    with pytest.raises(UserError, match="Expected neighbours of at least 1"):
        feature_autocorrelation(planted(0), neighbours=0)


def test_some_genes_and_some_spots_are_those_of_all() -> None:
    rng = np.random.default_rng(3)
    counts = sparse.csr_matrix(rng.poisson(2.0, size=(60, 7)))
    training = TrainingSpots(
        counts, np.full(60, 40), np.repeat([0, 1, 2], 20), np.zeros((60, 2)), tuple("abcdefg"), rng.normal(size=(60, 4))
    )
    whole = feature_autocorrelation(training)
    some = np.array([5, 0, 3])
    np.testing.assert_allclose(feature_autocorrelation(training, genes=some), whole[some], rtol=1e-12)
    assert len(feature_autocorrelation(training, genes=np.array([], dtype=int))) == 0
    thin = [each[::3] for each in np.split(np.arange(60), 3)]
    rows = np.concatenate(thin)
    part = TrainingSpots(
        counts[rows], np.full(21, 40), training.slides[rows], np.zeros((21, 2)), training.genes, training.features[rows]
    )
    np.testing.assert_allclose(feature_autocorrelation(training, most_spots=20), feature_autocorrelation(part))
