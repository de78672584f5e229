"""The battery over every built-in loss, and bad losses over the battery."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import strank
from agl.testing.losses import check_loss
from agl.testing.losses import make_example as make

FUNCTIONS = [
    ("mse", {}),
    ("mse", {"centred": True}),
    ("poisson_nll", {}),
    ("negative_binomial_nll", {"dispersion": 3.0}),
    ("pairwise_nll", {}),
    ("pairwise_nll", {"n_partners": 5, "count_power": 0.5}),
    ("margin_ranking", {"count_power": 0.0}),
    ("margin_ranking", {"margin": 0.0, "ties": "released"}),
    ("margin_ranking_released", {}),
    ("listwise_nll", {}),
    ("listwise_nll", {"count_power": 0.0}),
    ("listwise_nll", {"list_size": 4, "count_power": 0.5}),
    ("dirichlet_multinomial_nll", {"concentration": 4.0}),
    ("pearson_loss", {}),
    ("pearson_loss", {"pooled": True, "count_power": 0.5}),
]
MODULES = [name for name in strank.__all__ if name.endswith("Loss")]


@pytest.mark.parametrize(("name", "options"), FUNCTIONS)
def test_functions_keep_the_contract(name, options):
    check_loss(getattr(strank, name), **options)


@pytest.mark.parametrize("name", MODULES)
def test_modules_keep_the_contract(name):
    check_loss(getattr(strank, name))


@pytest.mark.parametrize(
    ("module", "function", "options"),
    [
        (strank.MSELoss, strank.mse, {"centred": True}),
        (strank.PoissonLoss, strank.poisson_nll, {}),
        (strank.PairwiseLoss, strank.pairwise_nll, {"n_partners": 3, "count_power": 0.5}),
        (strank.MarginRankingLoss, strank.margin_ranking, {"margin": 0.3, "ties": "released", "n_partners": 2}),
        (strank.ListwiseLoss, strank.listwise_nll, {"list_size": 5, "count_power": 0.5}),
        (strank.PearsonLoss, strank.pearson_loss, {"pooled": True, "count_power": 0.5}),
    ],
)
def test_modules_hand_every_option_on(module, function, options):
    example = make()
    draw = {} if function in (strank.mse, strank.poisson_nll, strank.pearson_loss) else {"generator": None}

    def call(loss, **more):
        if draw:
            more["generator"] = torch.Generator().manual_seed(9)
        rest = {"slides": example.slides, "library_size": example.library_size}
        return loss(example.scores, example.counts, **rest, **more)

    assert torch.equal(call(module(**options)), call(function, **options))


def test_learnable_parameters_are_really_optimised():
    """NB data of dispersion 4 and a perfect mean: maximum likelihood finds 4, for the module as for SciPy's density."""
    generator = torch.Generator().manual_seed(0)
    mean, theta = torch.full((4000, 1), 5.0), 4.0
    gamma = torch._standard_gamma(torch.full((4000, 1), theta), generator=generator) / theta
    counts = torch.poisson(mean * gamma, generator=generator)
    loss = strank.NegativeBinomialLoss(1)
    optimiser = torch.optim.LBFGS(loss.parameters(), line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        optimiser.zero_grad()
        value = loss(mean.log(), counts).sum()
        value.backward()
        return value

    optimiser.step(closure)
    assert loss.dispersion.item() == pytest.approx(4.0, rel=0.1)


def test_dirichlet_multinomial_learns_its_concentration():
    generator = torch.Generator().manual_seed(0)
    slides = torch.arange(300).repeat_interleave(8)
    shares = torch._standard_gamma(torch.full((300, 8), 20 / 8), generator=generator)
    shares = (shares / shares.sum(1, keepdim=True)).flatten()
    counts = torch.poisson(60 * shares, generator=generator).unsqueeze(1)
    loss = strank.DirichletMultinomialLoss(1)
    optimiser = torch.optim.LBFGS(loss.parameters(), line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        optimiser.zero_grad()
        value = loss(torch.zeros(2400, 1), counts, slides=slides).sum()
        value.backward()
        return value

    optimiser.step(closure)
    assert loss.concentration.item() == pytest.approx(20, rel=0.15)


def scalar(scores, counts, *, slides=None, library_size=None):
    return (scores - counts).square().mean()


def detached(scores, counts, *, slides=None, library_size=None):
    return (scores.detach() - counts).square().mean(0)


def across_genes(scores, counts, *, slides=None, library_size=None):
    return -(torch.log_softmax(scores.float(), 1) * counts).mean(0)


def order_matters(scores, counts, *, slides=None, library_size=None):
    return (scores - counts)[0]


def not_finite(scores, counts, *, slides=None, library_size=None):
    return (scores / counts.sum(0)).mean(0)


def overwrites(scores, counts, *, slides=None, library_size=None):
    counts += 1
    return (scores.float() - counts).square().mean(0)


def own_dice(scores, counts, *, slides=None, library_size=None, generator=None):
    return (scores.float() * torch.rand(len(scores), 1)).mean(0)


def no_slides(scores, counts):
    return (scores - counts).square().mean(0)


def codes_are_numbers(scores, counts, *, slides=None, library_size=None):
    shift = 0 if slides is None else slides.float().unsqueeze(1)
    return (scores.float() - counts - shift).square().mean(0)


class HalfLoss(nn.Module):
    def forward(self, scores, counts, *, slides=None, library_size=None):
        return (scores - counts.to(scores.dtype)).square().mean(0)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (scalar, "reduce over spots only"),
        (detached, "do not detach"),
        (across_genes, "normalise over spots, not over genes"),
        (order_matters, "order of spots not to matter"),
        (not_finite, "Expected finite values"),
        (overwrites, "the loss modified it"),
        (own_dice, "draw only from the argument `generator`"),
        (no_slides, "add `slides=None`"),
        (codes_are_numbers, "mere names"),
        (HalfLoss, "accumulate in scores.float"),
    ],
)
def test_the_battery_finds_what_is_wrong(loss, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(loss)
