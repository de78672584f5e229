"""Co-expression against a plain loop over genes, and on data where the useful genes are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agl.errors import UserError
from agl.genes import coexpression as module
from agl.genes import priors
from agl.genes.training import TrainingSpots


def plain(training, primary, *, top, depth, corrected):
    """One gene and one primary gene at a time, least squares for the covariates."""
    rows_of = [np.flatnonzero(training.slides == code) for code in np.unique(training.slides)]
    x = np.log1p(training.counts.toarray() * 1e4 / training.library_size[:, None])
    r = np.zeros((training.n_genes, len(primary)))
    varies = np.zeros(training.n_genes, dtype=bool)
    total, degrees = 0, 0
    for rows in rows_of:
        logs = np.log(training.library_size[rows])
        covariates = np.stack([np.ones(len(rows)), logs, logs**2], axis=1) if depth else np.ones((len(rows), 1))
        if len(rows) < 6:
            continue
        total += len(rows)
        degrees += len(rows) - covariates.shape[1]
        rest = x[rows] - covariates @ np.linalg.lstsq(covariates, x[rows], rcond=None)[0]
        for gene in range(training.n_genes):
            if rest[:, gene].std() < 1e-9:
                continue
            varies[gene] = True
            for j, other in enumerate(primary):
                if rest[:, other].std() > 1e-9:
                    r[gene, j] += len(rows) * np.corrcoef(rest[:, gene], rest[:, other])[0, 1]
    r2 = (r / total) ** 2
    if corrected:
        r2 = r2 - (1 - r2) / (degrees - 1)
    result = np.full(training.n_genes, np.nan)
    for gene in np.flatnonzero(varies):
        values = sorted((r2[gene, j] for j, other in enumerate(primary) if other != gene), reverse=True)
        result[gene] = np.mean(values[:top])
    return result


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("top", [1, 3, 50])
def test_coexpression_is_the_plain_loops(spots, depth, corrected, top):
    primary = np.array([12, 3, 7, 40])  # gene 7 has no counts
    ours = priors.coexpression(spots, primary=primary, top=top, depth=depth, corrected=corrected)
    np.testing.assert_allclose(ours, plain(spots, primary, top=top, depth=depth, corrected=corrected), atol=1e-10)
    assert np.isnan(ours[7])


def test_blocks_of_spots_do_not_matter(spots, monkeypatch):
    primary = np.array([1, 2, 3])
    whole = priors.coexpression(spots, primary=primary)
    monkeypatch.setattr("agl.genes.training.BLOCK", 13)
    np.testing.assert_allclose(priors.coexpression(spots, primary=primary), whole, atol=1e-12)


def test_useful_genes_are_found(planted):
    for seed in range(3):
        data = planted(seed)
        score = data.candidates.prior("coexpression")
        assert roc_auc_score(data.useful, score) > 0.9
        assert roc_auc_score(data.useful, data.candidates.prior("dispersion")) < 0.8  # the data are not trivial


def test_a_batch_effect_does_not_count_inside_slides(planted):
    data = planted(1, batch_effect=0.8, n_slides=4, n_spots=400)
    training = data.candidates.training
    pooled = TrainingSpots(
        training.counts, training.library_size, np.zeros_like(training.slides), training.coords, training.genes
    )
    noise = ~(data.useful | data.unrelated)
    aux, primary = data.candidates.auxiliary, data.candidates.primary
    within = priors.coexpression(training, primary=primary)[aux]
    across = priors.coexpression(pooled, primary=primary)[aux]
    assert roc_auc_score(data.useful[data.useful | noise], within[data.useful | noise]) > 0.9
    assert roc_auc_score(data.useful[data.useful | noise], across[data.useful | noise]) < 0.7
    untouched = planted(1, batch_effect=0.0, n_slides=4, n_spots=400).candidates.prior("coexpression")
    assert abs(within[noise].mean() - untouched[noise].mean()) < 0.01
    assert across[noise].mean() > untouched[noise].mean() + 0.1


def test_unrelated_genes_have_none_on_average_when_corrected():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (40, 400))
    training = TrainingSpots(
        counts, np.full(40, 1000), np.repeat([0, 1], 20), np.zeros((40, 2)), tuple(map(str, range(400)))
    )
    primary = np.arange(10)
    corrected = priors.coexpression(training, primary=primary, top=10)[10:]
    raw = priors.coexpression(training, primary=primary, top=10, corrected=False)[10:]
    assert abs(corrected.mean()) < 3 * corrected.std() / np.sqrt(390)
    assert abs(raw.mean() - 1 / 38) < 3 * raw.std() / np.sqrt(390)


def test_depth_makes_rare_genes_seem_coexpressed_unless_it_is_taken_out():
    rng = np.random.default_rng(0)
    size = np.exp(0.9 * rng.standard_normal((600, 1)))
    counts = rng.poisson(np.full(60, 3.0) * size)
    library = np.round(3000 * size[:, 0]).astype(int)
    training = TrainingSpots(counts, library, np.zeros(600, int), np.zeros((600, 2)), tuple(map(str, range(60))))
    free = priors.coexpression(training, primary=np.arange(10), depth=False)[10:].mean()
    taken_out = priors.coexpression(training, primary=np.arange(10))[10:].mean()
    assert free > 0.01
    assert abs(taken_out) < free / 4


def test_a_gene_is_not_compared_with_itself(spots):
    with_itself = next(module.slide_correlations(spots, np.array([2, 5]))).correlation[2, 0]
    assert with_itself == pytest.approx(1.0)
    assert priors.coexpression(spots, primary=np.array([2, 5]), top=1)[2] < 0.5
    assert priors.coexpression(spots, primary=np.array([2]), top=1)[2] == 0  # nobody else to go with


def test_errors_are_sentences(spots):
    with pytest.raises(UserError, match=r"needs? primary|primary genes.*received none"):
        priors.coexpression(spots)
    with pytest.raises(UserError, match="received none"):
        priors.coexpression(spots, primary=np.array([], dtype=int))
    with pytest.raises(UserError, match=r"top of at least 1.*received 0"):
        priors.coexpression(spots, primary=np.array([1]), top=0)
    alone = TrainingSpots(spots.counts[:5], spots.library_size[:5], np.arange(5), spots.coords[:5], spots.genes)
    with pytest.raises(UserError, match=r"slide with at least 6 training spots.*largest has 1"):
        priors.coexpression(alone, primary=np.array([1]))
