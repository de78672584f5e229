"""Scores against SciPy, and what a prediction that ranks nothing is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from agl.scoring import POOLED, expression, gene_table, mean_scores, summary

RNG = np.random.default_rng(0)
COUNTS = torch.from_numpy(RNG.poisson(3.0, (60, 4)).astype(np.float32))
SCORES = torch.from_numpy(RNG.normal(size=(60, 4)).astype(np.float32))
LIBRARY = RNG.integers(50, 200, 60)
SLIDES = np.repeat(["a", "b"], [25, 35])


def table(scores=SCORES, counts=COUNTS, library=LIBRARY):
    return gene_table(scores, counts, library, SLIDES, list("wxyz"))


def test_every_row_is_scipys() -> None:
    found = table()
    target = np.log1p(1e4 * COUNTS.numpy() / LIBRARY[:, None])
    for _, row in found.iterrows():
        here = np.ones(60, bool) if row.slide == POOLED else row.slide == SLIDES
        j = "wxyz".index(row.gene)
        assert row.scc == pytest.approx(stats.spearmanr(SCORES[here, j], target[here, j]).statistic, abs=1e-6)
        assert row.pcc == pytest.approx(stats.pearsonr(SCORES[here, j], target[here, j]).statistic, abs=1e-6)
        assert row.spots == here.sum()
    pooled = found[found.slide == POOLED].set_index("gene").pcc_log1p
    raw = stats.pearsonr(SCORES[:, 1], np.log1p(COUNTS[:, 1])).statistic
    assert pooled["x"] == pytest.approx(raw, abs=1e-6)


def test_the_mean_is_of_slides_of_genes() -> None:
    found = table()
    slides = [found[found.slide == name].scc.mean() for name in "ab"]
    assert summary(found)["scc"] == pytest.approx(np.mean(slides))
    codes = (SLIDES == "b").astype(int)
    assert mean_scores(SCORES, COUNTS, LIBRARY, codes)["scc"] == pytest.approx(np.mean(slides))


def test_a_constant_prediction_counts_zero_and_a_constant_gene_is_undefined() -> None:
    scores, counts = SCORES.clone(), COUNTS.clone()
    scores[:25, 0] = 1.5
    counts[:, 1] = 0
    found = table(scores, counts)
    flat = found[(found.slide == "a") & (found.gene == "w")].iloc[0]
    assert (flat.scc, flat.pcc, flat.constant) == (0.0, 0.0, True)
    gone = found[(found.slide == "a") & (found.gene == "x")].iloc[0]
    assert np.isnan(gone.scc)
    assert not gone.constant
    numbers = summary(found)
    assert (numbers["undefined"], numbers["constant"], numbers["pairs"]) == (2, 1, 8)


def test_collapsing_on_hard_genes_does_not_pay() -> None:
    good = COUNTS.clone()
    honest = torch.cat([good[:, :1], SCORES[:, 1:]], 1)
    collapsed = torch.cat([good[:, :1], torch.zeros(60, 3)], 1)
    codes = (SLIDES == "b").astype(int)
    assert mean_scores(collapsed, COUNTS, LIBRARY, codes)["scc"] < 0.3
    assert mean_scores(collapsed, COUNTS, LIBRARY, codes)["constant"] == 6
    assert abs(mean_scores(honest, COUNTS, LIBRARY, codes)["scc"] - 0.25) < 0.25


def test_scores_that_are_not_finite_stay_undefined() -> None:
    scores = SCORES.clone()
    scores[3, 2] = torch.nan
    found = table(scores)
    row = found[(found.slide == "a") & (found.gene == "y")].iloc[0]
    assert np.isnan(row.scc)
    assert not row.constant


def test_spots_without_counts_have_no_expression_and_no_part() -> None:
    library, counts = LIBRARY.copy(), COUNTS.clone()
    library[5], counts[5] = 0, 0
    assert torch.isnan(expression(counts, library)[5]).all()
    found = table(counts=counts, library=library)
    assert found[found.slide == "a"].spots.tolist() == [24] * 4


def test_spots_without_counts_have_no_part_in_the_means() -> None:
    library, counts, scores = LIBRARY.copy(), COUNTS.clone(), SCORES.clone()
    library[[5, 40]], counts[[5, 40]], scores[[5, 40]] = 0, 0, 100.0
    kept = library > 0
    codes = (SLIDES == "b").astype(int)
    found = mean_scores(scores, counts, library, codes)
    for name, correlate in (("scc", stats.spearmanr), ("pcc", stats.pearsonr)):
        pairs = [
            correlate(scores[here, j], np.log1p(1e4 * counts[here, j].numpy() / library[here])).statistic
            for here in (kept & (codes == 0), kept & (codes == 1))
            for j in range(4)
        ]
        assert found[name] == pytest.approx(np.mean(pairs), abs=1e-6)
    assert (found["undefined"], found["constant"]) == (0, 0)
