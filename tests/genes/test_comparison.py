"""The comparison methods against their papers' formulas, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from agl.errors import UserError
from agl.genes.selectors import DWA, FAMO, AMALScalars, AutoLambda, FixedStrength, UncertaintyWeights
from agl.testing.gene_sets import example_candidates


def test_uncertainty_follows_the_gradient_of_kendalls_objective():
    """d/ds [exp(-s) L + s] by autograd, s stepped by hand."""
    rng = np.random.default_rng(0)
    losses = torch.from_numpy(rng.uniform(0.5, 2.0, (6, 32))).float()
    selector = UncertaintyWeights(example_candidates(), rate=0.1)
    s = losses[0].log()
    selector.observe(losses[0])
    for loss in losses[1:]:
        s = s.detach().requires_grad_()
        (torch.exp(-s) * loss + s).sum().backward()
        s = s - 0.1 * s.grad
        selector.observe(loss)
    expected = torch.exp(-s) / torch.exp(-s).max()
    torch.testing.assert_close(selector(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_uncertainty_ends_at_one_over_the_loss():
    losses = torch.linspace(0.1, 5, 32)
    selector = UncertaintyWeights(example_candidates())
    for step in range(400):
        noise = 1 + 0.3 * torch.randn(32, generator=torch.Generator().manual_seed(step))
        selector.observe(losses * noise)
    ratio = selector() * losses
    assert (ratio / ratio.mean() - 1).abs().max() < 0.25


def test_famo_follows_its_update():
    """xi <- xi - rate (J^T delta + decay xi), J the Jacobian of the softmax, by autograd."""
    rng = np.random.default_rng(0)
    losses = torch.from_numpy(rng.uniform(0.5, 2.0, (6, 32))).float()
    selector = FAMO(example_candidates(), rate=0.5, decay=0.01, memory=1.0)  # memory 1: no smoothing
    xi = torch.zeros(32)
    selector.observe(losses[0])
    xi = xi - 0.5 * 0.01 * xi
    for before, after in itertools.pairwise(losses):
        xi = xi.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.softmax(xi, 0), xi, grad_outputs=before.log() - after.log())
        xi = xi - 0.5 * (slope + 0.01 * xi)
        selector.observe(after)
    weights = torch.softmax(xi, 0) / losses[-1]
    torch.testing.assert_close(selector(), (weights / weights.max()).detach(), rtol=1e-4, atol=1e-6)


def test_famo_favours_what_falls_slowly():
    selector = FAMO(example_candidates(), rate=1.0)
    pace = torch.linspace(0.99, 0.5, 32)
    for step in range(20):
        selector.observe(pace**step)
    assert selector.xi[0] > selector.xi[-1]


@pytest.mark.parametrize("make", [UncertaintyWeights, FAMO])
def test_nan_zero_and_negative_losses_do_no_harm(make):
    selector = make(example_candidates())
    for _ in range(3):
        losses = torch.ones(32)
        losses[0], losses[1], losses[2] = torch.nan, 0.0, -3.0
        selector.observe(losses)
    weights = selector()
    assert torch.isfinite(weights).all()
    assert weights.max() == 1


def test_amal_starts_where_told_and_stays_alive():
    selector = AMALScalars(example_candidates(), weight=0.8, temperature=0.5)
    assert selector().tolist() == pytest.approx([0.8] * 32)
    with torch.no_grad():
        selector.logits.fill_(1e6)
    selector.project()
    selector().sum().backward()
    assert (selector.logits.grad > 0).all()


def test_fixed_strength_never_moves():
    selector = FixedStrength(example_candidates(), weight=0.7)
    selector.observe(torch.rand(32))
    assert selector().tolist() == pytest.approx([0.7] * 32)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (FixedStrength, {"weight": 20.0}, "weight from 0 to 1, received 20"),
        (AMALScalars, {"weight": 1.0}, "1 - weight above 0"),
        (UncertaintyWeights, {"rate": 0.0}, "rate above 0"),
        (FAMO, {"memory": 0.0}, "memory above 0"),
    ],
)
def test_wrong_options_are_refused(make, options, message):
    with pytest.raises(UserError, match=message):
        make(example_candidates(), **options)


def test_dwa_follows_its_equation():
    """w = softmax over genes of the ratio of the last two epochs' mean losses; equal until there are two."""
    rng = np.random.default_rng(0)
    losses = rng.uniform(0.5, 2.0, (4, 3, 32))  # epoch, batch, gene
    selector = DWA(example_candidates(), temperature=1.5)
    for epoch in range(5):
        selector.on_epoch(epoch, 5)
        means = losses[:epoch].mean(1)
        ratio = means[-1] / means[-2] if epoch >= 2 else np.ones(32)
        expected = np.exp(ratio / 1.5) / np.exp(ratio / 1.5).sum()
        np.testing.assert_allclose(selector(), expected / expected.max(), rtol=1e-5)
        for batch in losses[epoch] if epoch < 4 else ():
            selector.observe(torch.from_numpy(batch))


def test_auto_lambda_steps_against_the_hypergradient_and_stays_in_range():
    selector = AutoLambda(example_candidates(), weight=0.1)
    (selector() * torch.linspace(-1, 1, 32)).sum().backward()
    assert selector.weights.grad.tolist() == pytest.approx(np.linspace(-1, 1, 32))
    with torch.no_grad():
        selector.weights -= 5 * selector.weights.grad
    selector.project()
    assert selector()[0] == 1
    assert selector()[-1] == 0
