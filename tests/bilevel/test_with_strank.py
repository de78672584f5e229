"""Every loss of strank as the inner and the outer loss, several slides in a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import strank
from agl.bilevel import heads
from agl.bilevel.engines import finite_difference, forward, higher, reverse
from agl.bilevel.settings import InnerSettings
from agl.testing.engines import small_problem, trained

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mse": strank.mse,
    "poisson": strank.poisson_nll,
    "negative_binomial": strank.negative_binomial_nll,
    "pairwise": strank.pairwise_nll,
    "listwise": strank.listwise_nll,
    "dirichlet_multinomial": strank.dirichlet_multinomial_nll,
    "pearson": strank.pearson_loss,
    "negative binomial with a dispersion for each gene": strank.NegativeBinomialLoss(70).double(),
    "dirichlet multinomial with a concentration for each gene": strank.DirichletMultinomialLoss(70).double(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_exact_with(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, batch = small_problem("mlp", n_genes=70)
    problem = replace(problem, gene_loss=LOSSES[name])
    if isinstance(problem.gene_loss, torch.nn.Module):
        with torch.no_grad():
            for parameter in problem.gene_loss.parameters():
                parameter.copy_(torch.linspace(-0.5, 0.5, 70))
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.005)
    trained(problem, batch, optimizer)
    inner, outer = [batch(), batch()], batch()
    truth = finite_difference(problem, inner, outer, InnerSettings(optimizer, seed=3))
    size = max(float(value.abs().max()) for value in truth.phi.values())
    assert size > 1e-7
    monkeypatch.setattr(heads, "BLOCK", 1)  # blocks of 32 genes
    for engine in (forward, reverse, higher):
        found = engine(problem, inner, outer, InnerSettings(optimizer, seed=3))
        for key, value in truth.phi.items():
            torch.testing.assert_close(found.phi[key], value, rtol=1e-6, atol=1e-6 * size)
