"""The negative binomial at large counts, where its terms are a million times its value, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import strank

COUNTS = [0, 1, 5, 64, 65, 300, 10_000, 1_000_000, 50_000_000]
RATIOS = [0.5, 1.0, 1.01, 3.0]  # mean over count


def laid_out(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and counts `[1, gene]` for every pair of a count and a ratio."""
    pairs = [(count, max(1, count) * ratio) for count in COUNTS for ratio in RATIOS]
    counts, means = (torch.tensor([column], dtype=torch.float64) for column in zip(*pairs, strict=True))
    return means.log().to(dtype), counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("theta", [0.01, 1.0, 10.0, 1e3, 1e5])
def test_value_is_that_of_scipy(way, theta, dtype):
    scores, counts = laid_out(torch.float32)
    scores = scores.to(dtype)
    value, gradient = way(strank.negative_binomial_nll, scores, counts, dispersion=theta)
    theta = float(torch.tensor(theta, dtype=dtype))
    mean, c = scores.double().exp().numpy()[0], counts.numpy()[0]
    expected = -stats.nbinom(theta, theta / (theta + mean)).logpmf(c)
    np.testing.assert_allclose(value.double(), expected, rtol=2e-5, atol=2e-5)
    slope = theta * (mean - c) / (mean + theta)
    np.testing.assert_allclose(gradient[0].double(), slope, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("theta", [1e8, 1e12])
def test_huge_dispersion_is_poisson_also_at_large_counts(way, theta):
    scores, counts = laid_out(torch.float32)
    few = counts[0] <= 1000  # where counts^2 / theta is nothing
    value, _ = way(strank.negative_binomial_nll, scores[:, few], counts[:, few], dispersion=theta)
    expected = -stats.poisson(scores[0, few].double().exp().numpy()).logpmf(counts[0, few].numpy())
    np.testing.assert_allclose(value.double(), expected, rtol=1e-4, atol=2e-2 if theta < 1e9 else 1e-4)


def test_one_large_count_among_small_ones(way):
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((400, 3), 4.0), generator=generator)
    counts[17, 1], counts[200, 2] = 1_000_000, 2.5
    scores = torch.randn(400, 3, generator=generator)
    scores[17, 1] = 13.0
    library_size = torch.randint(5000, 20_000, (400,), generator=generator)
    value, gradient = way(
        strank.negative_binomial_nll,
        scores,
        counts,
        library_size=library_size,
        dispersion=torch.tensor([0.5, 2.0, 9.0]),
    )
    mean = scores.double().exp() * (library_size / 1e4)[:, None]
    theta = torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)
    terms = -torch.distributions.NegativeBinomial(theta, mean / (mean + theta), validate_args=False).log_prob(
        counts.double()
    )
    np.testing.assert_allclose(value.double(), terms.mean(0), rtol=3e-6)
    np.testing.assert_allclose(gradient.double(), theta * (mean - counts) / (mean + theta) / 400, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dispersions_gradient_at_large_counts(dtype):
    """Integrated over theta it gives back the difference of two values."""
    scores, counts = torch.full((1, 1), 13.5, dtype=dtype), torch.full((1, 1), 1e6)

    def slope(theta: float) -> float:
        at = torch.tensor([theta], dtype=dtype, requires_grad=True)
        strank.negative_binomial_nll(scores, counts, dispersion=at).sum().backward()
        return at.grad.item()

    def value(theta: float) -> float:
        return strank.negative_binomial_nll(scores.double(), counts, dispersion=theta).item()

    found, _ = integrate.quad(slope, 1.0, 4.0, epsabs=1e-6, epsrel=1e-6, limit=20)
    assert found == pytest.approx(value(4.0) - value(1.0), rel=1e-4)
