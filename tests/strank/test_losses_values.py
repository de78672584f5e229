"""Every loss against something else that knows its value: SciPy, hand arithmetic, a plain loop over slides or pairs.

In each of the ways of `conftest.WAYS`, so that no piece of code that knows a loss is the only witness of another.
"""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

import strank
from strank.sampling import draw_partners, random_lists


@pytest.fixture
def losses(way):
    """The losses of `strank`, evaluated in one of the ways; their values alone. `seed` is what they draw from."""

    def value(loss, *rest, **options):
        return way(loss, *rest, **options)[0]

    names = [name for name in strank.__all__ if name.startswith(("mse", "margin")) or name.endswith(("_nll", "_loss"))]
    return SimpleNamespace(**{name: functools.partial(value, getattr(strank, name)) for name in names})


def close(found: Tensor, expected: object, tolerance: float = 1e-10) -> None:
    if found.dtype == torch.float32:
        tolerance = max(tolerance, 2e-6)
    torch.testing.assert_close(found.double(), torch.as_tensor(expected).double(), rtol=tolerance, atol=tolerance)


def lists_of(codes, library_size=None):
    """Row numbers of each list, without empty spots."""
    usable = torch.ones(len(codes), dtype=torch.bool) if library_size is None else library_size > 0
    return [((codes == code) & usable).nonzero().squeeze(1) for code in codes.unique()]


# --- listwise -------------------------------------------------------------------------------------------------------


def test_listwise_by_hand(losses):
    # p = (1/4, 3/4) from scores (0, log 3); 2 and 5 counts; two spots
    scores = torch.tensor([[0.0], [math.log(3)]])
    found = losses.listwise_nll(scores, torch.tensor([[2], [5]]))
    close(found, [(2 * math.log(4) + 5 * math.log(4 / 3)) / 2], 1e-6)


@pytest.mark.parametrize("with_library", [False, True])
@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_listwise_is_the_multinomial_of_scipy(losses, batch, with_library, power):
    library = batch.library_size if with_library else None
    expected = torch.zeros(4, dtype=torch.float64)
    for rows in lists_of(batch.slides, library):
        for gene in range(4):
            c = batch.counts[rows, gene].numpy()
            logits = batch.scores[rows, gene].numpy() + (np.log(library[rows].numpy()) if with_library else 0)
            p = scipy.special.softmax(logits)
            if c.sum() > 0:
                coefficient = scipy.special.gammaln(c.sum() + 1) - scipy.special.gammaln(c + 1).sum()
                nll = coefficient - scipy.stats.multinomial(c.sum(), p).logpmf(c)
                expected[gene] += nll * c.mean() ** (power - 1)
    found = losses.listwise_nll(
        batch.scores, batch.counts, slides=batch.slides, library_size=library, count_power=power
    )
    close(found, expected / 30)


def test_listwise_mean_is_the_released_mean_over_spots_and_genes(losses, batch):
    library = batch.library_size.clamp(min=1)  # the released code has no answer for empty spots
    terms = [
        -F.log_softmax(batch.scores[rows] + library[rows, None].double().log(), -2) * batch.counts[rows]
        for rows in lists_of(batch.slides)
    ]
    found = losses.listwise_nll(batch.scores, batch.counts, slides=batch.slides, library_size=library)
    close(found.mean(), torch.cat(terms).mean())


def test_random_lists_of_n_spots(losses, batch):
    codes = random_lists(batch.slides, 30, 4, torch.Generator().manual_seed(3))
    expected = sum(-(F.log_softmax(batch.scores[rows], 0) * batch.counts[rows]).sum(0) for rows in lists_of(codes))
    found = losses.listwise_nll(batch.scores, batch.counts, slides=batch.slides, list_size=4, seed=3)
    close(found, expected / 30)


def test_a_list_size_beyond_the_slide_is_the_whole_slide(losses, batch):
    whole = losses.listwise_nll(batch.scores, batch.counts, slides=batch.slides, library_size=batch.library_size)
    found = losses.listwise_nll(
        batch.scores, batch.counts, slides=batch.slides, library_size=batch.library_size, list_size=1000
    )
    close(found, whole)


@pytest.mark.parametrize("concentration", [0.3, 7.0, 2000.0])
def test_dirichlet_multinomial_is_that_of_scipy(losses, batch, concentration):
    expected = torch.zeros(4, dtype=torch.float64)
    for rows in lists_of(batch.slides, batch.library_size):
        for gene in range(4):
            c = batch.counts[rows, gene].numpy().astype(int)
            logits = batch.scores[rows, gene].numpy() + np.log(batch.library_size[rows].numpy())
            alpha = concentration * scipy.special.softmax(logits)
            coefficient = scipy.special.gammaln(c.sum() + 1) - scipy.special.gammaln(c + 1).sum()
            if len(rows) > 1:
                expected[gene] += coefficient - scipy.stats.dirichlet_multinomial(alpha, c.sum()).logpmf(c)
    found = losses.dirichlet_multinomial_nll(
        batch.scores,
        batch.counts,
        slides=batch.slides,
        library_size=batch.library_size,
        concentration=concentration,
    )
    close(found, expected / 30, 1e-8)


def test_dirichlet_multinomial_tends_to_the_multinomial(losses, batch):
    arguments = {"slides": batch.slides, "library_size": batch.library_size}
    found = losses.dirichlet_multinomial_nll(batch.scores, batch.counts, concentration=1e9, **arguments)
    close(found, losses.listwise_nll(batch.scores, batch.counts, **arguments), 1e-6)
    in_float32 = losses.dirichlet_multinomial_nll(batch.scores.float(), batch.counts, concentration=1e9, **arguments)
    close(in_float32, found, 1e-5)  # lgamma differences of 1e9 would be off by hundreds


# --- pointwise ------------------------------------------------------------------------------------------------------


def rates(batch, library) -> np.ndarray:
    factor = library.double() / 1e4
    return (batch.scores.exp() * factor[:, None]).numpy()


def test_poisson_is_that_of_scipy(losses, batch):
    c, rate = batch.counts.numpy(), rates(batch, batch.library_size)
    usable = batch.library_size.numpy() > 0
    terms = -scipy.stats.poisson(rate).logpmf(c) - scipy.special.gammaln(c + 1)
    found = losses.poisson_nll(batch.scores, batch.counts, library_size=batch.library_size)
    close(found, terms[usable].sum(0) / 30)


@pytest.mark.parametrize("dispersion", [0.2, 1.0, 50.0])
def test_negative_binomial_is_that_of_scipy(losses, batch, dispersion):
    counts = batch.counts.clone()
    counts[0, 0] = 500  # beyond the table of small counts
    mean, usable = rates(batch, batch.library_size), batch.library_size.numpy() > 0
    terms = -scipy.stats.nbinom(dispersion, dispersion / (dispersion + mean)).logpmf(counts.numpy())
    found = losses.negative_binomial_nll(batch.scores, counts, library_size=batch.library_size, dispersion=dispersion)
    close(found, terms[usable].sum(0) / 30, 1e-9)


def test_negative_binomial_mean_is_the_released_mean(losses, batch):
    mean, theta = batch.scores.exp(), torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    released = -torch.distributions.NegativeBinomial(theta, mean / (mean + theta)).log_prob(batch.counts).mean()
    found = losses.negative_binomial_nll(batch.scores, batch.counts, dispersion=theta)
    close(found.mean(), released)


def test_mse_targets(losses):
    scores, counts = torch.tensor([[0.5], [1.0]]), torch.tensor([[3], [0]])
    close(losses.mse(scores, counts), [((0.5 - math.log(4)) ** 2 + 1) / 2], 1e-6)
    scaled = math.log1p(1e4 * 3 / 60)
    found = losses.mse(scores, counts, library_size=torch.tensor([60, 7]))
    close(found, [((0.5 - scaled) ** 2 + 1) / 2], 1e-6)


def test_mse_centred_compares_within_slides(losses, batch):
    y = torch.log1p(batch.counts.double())
    expected = sum(
        ((batch.scores[rows] - batch.scores[rows].mean(0)) - (y[rows] - y[rows].mean(0))).square().sum(0)
        for rows in lists_of(batch.slides)
    )
    close(losses.mse(batch.scores, batch.counts, slides=batch.slides, centred=True), expected / 30)


# --- correlation ----------------------------------------------------------------------------------------------------


def test_pearson_per_slide_is_that_of_scipy(losses, batch):
    y = torch.log1p(1e4 * batch.counts.double() / batch.library_size.clamp(min=1)[:, None])
    rows_of = [rows for rows in lists_of(batch.slides, batch.library_size) if len(rows) > 1]
    expected = [
        1 - np.mean([scipy.stats.pearsonr(batch.scores[r, gene], y[r, gene]).statistic for r in rows_of])
        for gene in range(3)
    ]
    found = losses.pearson_loss(batch.scores, batch.counts, slides=batch.slides, library_size=batch.library_size)
    close(found, [*expected, 0.0])


def test_pearson_pooled_ignores_slides(losses, batch):
    y = torch.log1p(batch.counts.double())
    expected = [1 - scipy.stats.pearsonr(batch.scores[:, g], y[:, g]).statistic for g in range(3)]
    close(losses.pearson_loss(batch.scores, batch.counts, slides=batch.slides, pooled=True), [*expected, 0.0])


# --- pairs ----------------------------------------------------------------------------------------------------------


def all_pairs(batch, rows):
    return [(i, j) for i in rows.tolist() for j in rows.tolist() if i != j]


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_pairwise_over_all_partners_is_the_double_loop(losses, batch, power):
    one = slice(5, 15)  # one slide; as many partners as there are others: every ordered pair once
    scores, counts, library = batch.scores[one], batch.counts[one], batch.library_size[one]
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(10):
        for j in range(10):
            if i != j:
                logits = scores[[i, j]] + library[[i, j], None].double().log()
                nll = -(F.log_softmax(logits, 0) * counts[[i, j]]).sum(0)
                mean = counts[[i, j]].mean(0).double()
                expected += torch.where(mean > 0, nll * mean.clamp(min=0.5) ** (power - 1), 0)
    found = losses.pairwise_nll(scores, counts, library_size=library, n_partners=9, count_power=power)
    close(found, expected / (2 * 10 * 9), 1e-9)


def test_pairwise_mean_is_the_released_mean_over_pairs(losses, batch):
    partner = draw_partners(batch.slides, 30, 1, torch.Generator().manual_seed(5))[0]
    rows = (~partner.lonely).nonzero().squeeze(1)
    pairs = torch.stack([batch.scores[rows], batch.scores[partner.of[rows]]], 1)
    counts = torch.stack([batch.counts[rows], batch.counts[partner.of[rows]]], 1)
    released = (-F.log_softmax(pairs, -2) * counts).mean() * len(rows) / 30  # it would pair a lonely spot with itself
    found = losses.pairwise_nll(batch.scores, batch.counts, slides=batch.slides, seed=5)
    close(found.mean(), released)


def test_margin_over_all_partners_is_the_double_loop(losses, batch):
    one = lists_of(batch.slides, batch.library_size)[0]  # with n - 1 partners every ordered pair occurs once
    expected, n_pairs = torch.zeros(4, dtype=torch.float64), torch.zeros(4)
    for i, j in all_pairs(batch, one):
        ours = batch.counts[i] * batch.library_size[j] - batch.counts[j] * batch.library_size[i]
        expected += torch.where(ours != 0, (0.7 - ours.sign() * (batch.scores[i] - batch.scores[j])).clamp(min=0), 0)
        n_pairs += ours != 0
    found = losses.margin_ranking(
        batch.scores[one],
        batch.counts[one],
        library_size=batch.library_size[one],
        margin=0.7,
        n_partners=len(one) - 1,
    )
    close(found, expected / n_pairs.clamp(min=1))


def test_released_margin_takes_ties_as_less(losses):
    scores, counts = torch.tensor([[0.0], [2.0]]), torch.tensor([[1], [1]])
    # pairs (0, 1) and (1, 0), both labelled -1: max(0, s_i - s_j) = 0 and 2
    close(losses.margin_ranking_released(scores, counts), [1.0])
    sign = torch.tensor([[-1.0], [-1.0]])
    close(F.margin_ranking_loss(scores, scores.flip(0), sign), 1.0)
    close(losses.margin_ranking(scores, counts), [0.0])


def test_equal_shares_are_a_tie_whatever_the_rounding(losses):
    counts, library = torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([10, 30, 70])
    found = losses.margin_ranking(torch.randn(3, 1), counts, library_size=library, n_partners=2)
    close(found, [0.0])
