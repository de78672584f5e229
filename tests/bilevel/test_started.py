"""A network that adds to fixed scores: every engine sees them, and they are no parameter of anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agl.bilevel.engines import finite_difference, forward, higher, jvp, one_step, reverse
from agl.bilevel.problem import Problem
from agl.bilevel.settings import InnerSettings
from agl.bilevel.similarity import gradient_similarity
from agl.models.predictor import Start
from agl.testing.engines import correlation_loss, small_problem, trained


def _setting(steps: int, **options: Any) -> tuple[Any, ...]:
    problem, batch = small_problem("started", **options)
    live = torch.optim.Adam(problem.model.parameters(), lr=0.005)
    trained(problem, batch, live)
    return problem, [batch() for _ in range(steps)], batch(), InnerSettings(live, seed=5)


def _phi(found: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in found.phi.values()])


@pytest.mark.parametrize("gate", ["loss", "trunk"])
@pytest.mark.parametrize("steps", [1, 3])
def test_exact_engines_agree(steps: int, gate: str) -> None:
    problem, inner, outer, settings = _setting(steps, gate=gate)
    truth = finite_difference(problem, inner, outer, settings)
    for engine in (forward, reverse, higher):
        found = engine(problem, inner, outer, settings)
        assert float((_phi(found) - _phi(truth)).abs().max()) < 1e-6 * float(_phi(truth).abs().max()), engine.__name__
        assert found.outer_after == pytest.approx(truth.outer_after, rel=1e-9)
    if steps == 1:
        exact = reverse(problem, inner, outer, settings).weights
        torch.testing.assert_close(jvp(problem, inner, outer, settings).weights, exact, rtol=1e-6, atol=1e-12)
        near = one_step(problem, inner, outer, settings, by=1e-5).weights
        torch.testing.assert_close(near, exact, rtol=1e-5, atol=1e-10)


def test_the_look_ahead_is_a_training_step_of_the_whole_model() -> None:
    """The outer loss after one inner step, against plain autograd on scores that include the start's."""
    problem, (inner,), outer, _ = _setting(1)
    live = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    found = forward(problem, [inner], outer, InnerSettings(live))
    for batch in (inner, outer):  # the second time to judge
        losses = correlation_loss(
            problem.model(batch.inputs), batch.counts, slides=batch.slides, library_size=batch.library_size
        )
        if batch is outer:
            assert found.outer_after == pytest.approx(float(losses[: problem.n_primary].mean().detach()), rel=1e-9)
            return
        in_trunk, _ = problem.coefficients(problem.weights().detach())
        live.zero_grad()
        (in_trunk @ losses).backward()
        live.step()


def test_the_start_matters_and_shifts_by_itself_do_not() -> None:
    problem, inner, outer, settings = _setting(2)
    before = _phi(forward(problem, inner, outer, settings))
    start = problem.model.start
    assert isinstance(start, Start)
    start.level += 3.0  # the loss does not see the level of a gene's scores
    torch.testing.assert_close(_phi(forward(problem, inner, outer, settings)), before, rtol=1e-6, atol=1e-12)
    start.weight *= 0.2
    assert float((_phi(forward(problem, inner, outer, settings)) - before).abs().max()) > 1e-3 * float(
        before.abs().max()
    )


def test_similarity_is_autograds_with_a_start() -> None:
    problem, (batch,), _, _ = _setting(1)
    hidden = problem.trunk(batch.inputs).detach().requires_grad_()
    start = problem.model.start
    assert isinstance(start, Start)
    scores = problem.head(hidden) + start(batch.inputs)
    losses = correlation_loss(scores, batch.counts, slides=batch.slides, library_size=batch.library_size)
    n = problem.n_primary
    rows = [
        torch.autograd.grad(loss, hidden, retain_graph=True)[0].flatten() for loss in (losses[:n].mean(), *losses[n:])
    ]
    expected = torch.stack([torch.cosine_similarity(rows[0], row, dim=0) for row in rows[1:]])
    torch.testing.assert_close(gradient_similarity(problem, batch), expected, rtol=1e-6, atol=1e-9)


def test_some_genes_losses_are_the_whole_panels() -> None:
    problem, (batch,), _, _ = _setting(1)
    assert isinstance(problem, Problem)
    scores = torch.randn(8, problem.n_genes, dtype=torch.float64)
    whole = problem.losses(scores, batch)
    some = torch.tensor([7, 2, 9])
    torch.testing.assert_close(problem.losses(scores[:, some], batch, some), whole[some])
    torch.testing.assert_close(problem.losses(scores[:, 3:6], batch, slice(3, 6)), whole[3:6])
