"""The pure functions of the two levels, and the gate into the trunk."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agl.bilevel import gate_of, gated_scores
from agl.testing.engines import small_problem


def _params(problem: object) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().requires_grad_() for name, p in problem.model.named_parameters()}  # type: ignore[attr-defined]


def test_inner_is_what_a_trainer_descends() -> None:
    problem, batch = small_problem("mlp", strength=0.6)
    here = batch()
    losses = problem.losses(problem.model(here.inputs), here)
    expected = problem.combine(losses[:3], losses[3:], problem.weights(), strength=0.6)
    torch.testing.assert_close(problem.inner(_params(problem), problem.phi(), here), expected)


def test_outer_reads_the_primary_genes_only() -> None:
    problem, batch = small_problem("mlp")
    here = batch()
    changed = here._replace(counts=torch.cat([here.counts[:, :3], here.counts[:, 3:] + 7], 1))
    assert float(problem.outer(_params(problem), here)) == float(problem.outer(_params(problem), changed))


def test_outer_is_evaluation_and_inner_is_training() -> None:
    problem, batch = small_problem("dropout")
    here, params = batch(), _params(problem)
    assert float(problem.outer(params, here, seed=1)) == float(problem.outer(params, here, seed=2))
    first, second = (float(problem.inner(params, problem.phi(), here, seed=seed)) for seed in (1, 2))
    assert first != second
    assert first == float(problem.inner(params, problem.phi(), here, seed=1))


@pytest.mark.parametrize(("statistics", "inner", "outer"), [("training", 0, 1), ("batch", 0, 0), ("frozen", 1, 1)])
def test_batch_normalisation(statistics: str, inner: int, outer: int) -> None:
    problem, batch = small_problem("batchnorm", statistics=statistics)
    problem.trunk[1].running_mean.fill_(3.0)
    here = batch()
    before = problem.trunk[1].running_mean.clone()
    buffers, trunk = dict(problem.trunk.named_buffers()), dict(problem.trunk.named_parameters())
    for running, is_outer in ((inner, False), (outer, True)):
        problem.trunk.train(not running)
        with torch.no_grad():
            expected = problem.trunk(here.inputs)
        problem.trunk.train()
        problem.trunk[1].running_mean.copy_(before)
        torch.testing.assert_close(problem.hidden(trunk, here.inputs, buffers, outer=is_outer), expected)
        assert torch.equal(problem.trunk[1].running_mean, before)
        assert problem.trunk[1].training


def _two_terms(problem: object, params: dict[str, torch.Tensor], here: object) -> torch.Tensor:
    """The definition: weights on the whole loss with fixed heads, plus full weights with fixed hidden features."""
    weights = problem.weights()
    hidden = problem.hidden({"0.weight": params["trunk.0.weight"], "0.bias": params["trunk.0.bias"]}, here.inputs, {})
    weight, bias = params["head.weight"], params["head.bias"]
    to_trunk = problem.losses(nn.functional.linear(hidden, weight.detach(), bias.detach()), here)
    to_head = problem.losses(nn.functional.linear(hidden.detach(), weight, bias), here)
    ones = torch.ones_like(weights)
    return problem.combine(to_trunk[:3], to_trunk[3:], weights, strength=0.6) + problem.combine(
        to_head[:3], to_head[3:], ones, strength=0.6
    )


@pytest.mark.parametrize("combine", ["balanced", "sum", "weighted_mean"])
def test_the_gate_equals_two_terms(combine: str) -> None:
    from agl.bilevel import objective

    problem, batch = small_problem("mlp", gate="trunk", strength=0.6, combine=getattr(objective, combine))
    here, params = batch(), _params(problem)
    expected = torch.autograd.grad(_two_terms(problem, params, here), list(params.values()))
    found = torch.autograd.grad(problem.inner(params, problem.phi(), here), list(params.values()))
    torch.testing.assert_close(found, expected)


def test_the_trainers_form_equals_two_terms() -> None:
    problem, batch = small_problem("mlp", gate="trunk", strength=0.6)
    here, params = batch(), _params(problem)
    expected = torch.autograd.grad(_two_terms(problem, params, here), list(params.values()))
    gate = gate_of(*problem.coefficients(problem.weights().detach()))
    hidden = problem.trunk(here.inputs)
    losses = problem.losses(gated_scores(hidden, problem.head.weight, problem.head.bias, gate), here)
    loss = problem.combine(losses[:3], losses[3:], torch.ones(8).double(), strength=0.6)
    found = torch.autograd.grad(loss, list(problem.model.parameters()))
    torch.testing.assert_close(found, expected)


def test_gated_scores_are_the_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(4, 3, generator=generator), nn.Linear(3, 5)
    found = gated_scores(hidden, head.weight, head.bias, torch.rand(5, generator=generator))
    assert torch.equal(found, head(hidden))
    without = gated_scores(hidden, head.weight, None, torch.ones(5))
    assert torch.equal(without, hidden @ head.weight.T)


def test_a_gate_of_one_is_no_gate() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in ((4, 3), (5, 3), (5,))
    ]
    ones = torch.ones(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda h, w, b: gated_scores(h, w, b, ones), inputs)


def test_differentiating_the_gate_twice_is_an_error_and_not_a_wrong_number() -> None:
    hidden = torch.ones(2, 2, requires_grad=True)
    scores = gated_scores(hidden, torch.ones(3, 2, requires_grad=True), None, torch.full((3,), 0.5))
    (first,) = torch.autograd.grad(scores.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_the_gate_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    trunk, head = nn.Linear(3, 4), nn.Linear(4, 5)
    inputs, gate = torch.randn(6, 3, generator=generator), torch.rand(5, generator=generator)

    def gradients() -> list[torch.Tensor]:
        trunk.zero_grad()
        head.zero_grad()
        gated_scores(trunk(inputs), head.weight, head.bias, gate).float().square().sum().backward()
        return [p.grad.clone() for p in (*trunk.parameters(), *head.parameters()) if p.grad is not None]

    exact = gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = gradients()
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05 * max(float(g.abs().max()) for g in exact))
