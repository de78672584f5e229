"""First, second and forward derivatives: finite differences, and every way of asking agrees with every other."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.autograd import forward_ad

import strank

CASES = {
    "mse": (strank.mse, {}),
    "mse_centred": (strank.mse, {"centred": True}),
    "poisson": (strank.poisson_nll, {}),
    "negative_binomial": (strank.negative_binomial_nll, {"dispersion": 2.0}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 2}),
    "pairwise_weak": (strank.pairwise_nll, {"count_power": 0.5}),
    "listwise": (strank.listwise_nll, {}),
    "listwise_weak": (strank.listwise_nll, {"count_power": 0.0}),
    "listwise_of_4": (strank.listwise_nll, {"list_size": 4}),
    "dirichlet_multinomial": (strank.dirichlet_multinomial_nll, {"concentration": 5.0}),
    "pearson": (strank.pearson_loss, {}),
    "pearson_pooled": (strank.pearson_loss, {"pooled": True, "count_power": 0.5}),
}
PIECEWISE = {
    "margin": (strank.margin_ranking, {"n_partners": 3}),
    "margin_weak": (strank.margin_ranking, {"n_partners": 2, "count_power": 0.5}),
}
EVERY = CASES | PIECEWISE


@pytest.fixture
def as_function(make_batch):
    return functools.partial(_as_function, make_batch)


def _as_function(make_batch, name):
    """The loss `[gene]` of the scores alone; equal draws at every call."""
    batch = make_batch(n_spots=9, n_genes=2, n_slides=2)
    loss, options = EVERY[name]

    def function(scores):
        more = dict(options)
        if loss in (strank.pairwise_nll, strank.margin_ranking) or "list_size" in options:
            more["generator"] = torch.Generator().manual_seed(1)
        return loss(scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **more)

    return function, batch.scores.clone().requires_grad_()


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_those_of_finite_differences(as_function, name):
    function, scores = as_function(name)
    assert torch.autograd.gradcheck(function, scores, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("name", EVERY)
def test_the_fast_and_the_differentiable_value_agree(as_function, name):
    function, scores = as_function(name)
    fast, plain = function(scores.detach()), torch.func.vmap(function, randomness="same")(scores.detach()[None])[0]
    torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(as_function, name):
    function, scores = as_function(name)
    assert torch.autograd.gradgradcheck(function, scores, check_fwd_over_rev=True)


@pytest.mark.parametrize("name", CASES)
def test_every_way_to_a_hessian_vector_product(as_function, name):
    function, scores = as_function(name)
    tangent = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def total(s):
        return function(s).sum()

    (gradient,) = torch.autograd.grad(total(scores), scores, create_graph=True)
    (reverse_over_reverse,) = torch.autograd.grad((gradient * tangent).sum(), scores)
    plain = scores.detach()
    ways = {
        "func: forward over reverse": torch.func.jvp(torch.func.grad(total), (plain,), (tangent,))[1],
        "func: reverse over forward": torch.func.grad(lambda s: torch.func.jvp(total, (s,), (tangent,))[1])(plain),
        "func: hessian": (torch.func.jacfwd(torch.func.grad(total), randomness="same")(plain) * tangent).sum((2, 3)),
    }
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(scores, tangent)
        (of_dual,) = torch.autograd.grad(total(dual), dual)
        ways["forward_ad over grad"] = forward_ad.unpack_dual(of_dual).tangent
    for way, found in ways.items():
        torch.testing.assert_close(found, reverse_over_reverse, msg=lambda m, way=way: f"{way}: {m}")


@pytest.mark.parametrize("name", CASES)
def test_second_forward_derivative(as_function, name):
    function, scores = as_function(name)
    scores = scores.detach()
    tangent = torch.ones_like(scores) * torch.linspace(-1, 1, len(scores), dtype=torch.float64)[:, None]

    def along(s):
        return torch.func.jvp(function, (s,), (tangent,))[1]

    step = 1e-5
    expected = (along(scores + step * tangent) - along(scores - step * tangent)) / (2 * step)
    torch.testing.assert_close(torch.func.jvp(along, (scores,), (tangent,))[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_forward_ad_under_functional_call(as_function, name):
    """As the engines use it: tangents of the parameters of a model, through the model into the loss."""
    function, scores = as_function(name)
    model = torch.nn.Linear(2, 2).double()
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    tangents = {key: torch.ones_like(value) for key, value in parameters.items()}

    def of_parameters(p):
        return function(torch.func.functional_call(model, p, (scores.detach(),)))

    _, forward = torch.func.jvp(of_parameters, (parameters,), (tangents,))
    reverse = torch.func.jacrev(of_parameters)(parameters)
    expected = sum((reverse[key] * tangents[key]).flatten(1).sum(1) for key in parameters)
    torch.testing.assert_close(forward, expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_second_backward_gives_the_same(as_function, name):
    function, scores = as_function(name)
    value = function(scores).sum()
    first = torch.autograd.grad(value, scores, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(value, scores, retain_graph=True)[0], first)
    torch.testing.assert_close(torch.autograd.grad(2 * value, scores)[0], 2 * first)


@pytest.mark.parametrize("loss", [strank.negative_binomial_nll, strank.dirichlet_multinomial_nll])
def test_parameters_have_derivatives_too(make_batch, loss):
    batch = make_batch(n_spots=7, n_genes=3, n_slides=2)
    counts = batch.counts.clone()
    counts[0, 0] = 80  # beyond the table of small counts
    name = "dispersion" if loss is strank.negative_binomial_nll else "concentration"

    def function(scores, parameter):
        return loss(scores, counts, slides=batch.slides, library_size=batch.library_size, **{name: parameter})

    inputs = (batch.scores.clone().requires_grad_(), torch.tensor([0.4, 3.0, 90.0]).double().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_only_the_parameter_may_be_learned(make_batch):
    batch = make_batch()
    theta = torch.ones(4, dtype=torch.float64, requires_grad=True)
    strank.negative_binomial_nll(batch.scores, batch.counts, dispersion=theta).sum().backward()
    assert theta.grad.isfinite().all()
    assert theta.grad[:3].abs().min() > 0
