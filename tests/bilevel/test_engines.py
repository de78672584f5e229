"""The contract battery over every engine, what engines refuse, and that the battery itself can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agl import registry
from agl.bilevel import NOTHING_SHARED, HyperGradient, Problem
from agl.bilevel.engines import forward, jvp, none, reverse
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError
from agl.testing.engines import Threshold, check_engine, correlation_loss, small_problem, trained

EXACT = ("auto", "forward", "reverse", "higher", "finite_difference")


@pytest.mark.parametrize("name", [name for name in registry.names("engine") if name != "closed_form"])
def test_contract(name: str) -> None:
    check_engine(registry.find("engine", name), exact=name in EXACT)


class TestTheBatteryFails:
    def test_on_a_wrong_number(self) -> None:
        def off(*args: Any, **options: Any) -> HyperGradient:
            found = forward(*args, **options)
            return HyperGradient({n: v * (1 + 1e-5) for n, v in found.phi.items()}, None, 0.0, 0.0)

        with pytest.raises(AssertionError, match=r"off by 1\.0e-05 relative"):
            check_engine(off, exact=True)

    def test_on_a_touched_parameter(self) -> None:
        def touching(problem: Problem, *args: Any, **options: Any) -> HyperGradient:
            with torch.no_grad():
                problem.head.weight.mul_(1.0)
            return forward(problem, *args, **options)

        with pytest.raises(AssertionError, match="a live tensor was written to"):
            check_engine(touching, exact=True)

    def test_on_a_touched_gradient(self) -> None:
        def touching(problem: Problem, *args: Any, **options: Any) -> HyperGradient:
            problem.head.weight.grad = None
            return forward(problem, *args, **options)

        with pytest.raises(AssertionError, match=r"\.grad has changed"):
            check_engine(touching, exact=True)

    def test_on_a_touched_random_state(self) -> None:
        def touching(*args: Any, **options: Any) -> HyperGradient:
            torch.rand(1)
            return forward(*args, **options)

        with pytest.raises(AssertionError, match="the random state has changed"):
            check_engine(touching, exact=True)

    def test_on_a_number_where_nothing_is_shared(self) -> None:
        def unaware(problem: Problem, inner: Any, outer: Any, settings: InnerSettings) -> HyperGradient:
            try:
                return forward(problem, inner, outer, settings)
            except UserError:
                return HyperGradient({}, None, 0.0, 0.0)

        with pytest.raises(AssertionError, match="neither refused with the reason nor called zero"):
            check_engine(unaware, exact=False)


class TestRefusals:
    def test_nothing_shared(self) -> None:
        problem, batch = small_problem("none")
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
        with pytest.raises(UserError) as caught:
            forward(problem, [batch()], batch(), InnerSettings(optimizer))
        assert str(caught.value) == NOTHING_SHARED

    def test_a_frozen_trunk_shares_nothing(self) -> None:
        problem, batch = small_problem("mlp")
        problem.trunk.requires_grad_(False)
        optimizer = torch.optim.SGD(problem.head.parameters(), lr=0.1)
        with pytest.raises(UserError, match="hypergradient is exactly zero"):
            jvp(problem, [batch()], batch(), InnerSettings(optimizer))

    def test_no_inner_batch(self) -> None:
        problem, batch = small_problem()
        with pytest.raises(UserError, match="take one inner step or more"):
            forward(problem, [], batch(), InnerSettings(inner_optimizer="sgd", inner_lr=0.1))

    def test_untrained_heads(self) -> None:
        problem, batch = small_problem()
        optimizer = torch.optim.SGD(problem.trunk.parameters(), lr=0.1)
        with pytest.raises(UserError, match="Expected an optimiser that trains the heads"):
            reverse(problem, [batch()], batch(), InnerSettings(optimizer))

    def test_too_many_hyperparameters_for_forward(self) -> None:
        class Free(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weights = torch.nn.Parameter(torch.full((97,), 0.5))

            def forward(self) -> torch.Tensor:
                return self.weights

        base, batch = small_problem(n_genes=100)
        problem = Problem(base.model, correlation_loss, Free(), 3)
        with pytest.raises(UserError, match="received 97; use engine=jvp or engine=reverse"):
            forward(problem, [batch()], batch(), InnerSettings(inner_optimizer="sgd", inner_lr=0.1))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gate": "head"}, "Expected gate to be one of loss, trunk, received 'head'"),
            ({"statistics": "running"}, "Expected statistics to be one of training, batch, frozen"),
            ({"n_primary": 0}, "Expected between 1 and 11 primary genes"),
        ],
    )
    def test_a_problem_that_is_none(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            small_problem(**options)

    def test_a_model_without_a_head(self) -> None:
        with pytest.raises(UserError, match=r"Expected a model with \.trunk and a linear \.head"):
            Problem(torch.nn.Linear(2, 2), correlation_loss, Threshold(1), 1)

    def test_a_selector_for_another_panel(self) -> None:
        base, batch = small_problem()
        problem = Problem(base.model, correlation_loss, Threshold(5).double(), 3)
        with pytest.raises(UserError, match=r"Expected 8 weights from the selector.*received shape \(5,\)"):
            forward(problem, [batch()], batch(), InnerSettings(inner_optimizer="sgd", inner_lr=0.1))


def test_none_is_zero_and_says_so() -> None:
    problem, batch = small_problem()
    outer = batch()
    found = none(problem, [batch()], outer, InnerSettings())
    assert found.zero == "the engine is 'none'"
    assert not any(bool(value.any()) for value in found.phi.values())
    with torch.no_grad():
        expected = problem.losses(problem.model(outer.inputs), outer)[:3].mean()
    assert found.outer_before == found.outer_after == pytest.approx(float(expected), rel=1e-12)


def test_a_selector_that_does_not_depend_on_phi() -> None:
    class Constant(Threshold):
        def forward(self) -> torch.Tensor:
            return super().forward().detach()

    base, batch = small_problem()
    problem = Problem(base.model, correlation_loss, Constant(8).double(), 3)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    found = forward(problem, [batch()], batch(), InnerSettings(optimizer))
    assert "no weight changes" in found.zero
    assert not any(bool(value.any()) for value in found.phi.values())


def test_without_an_optimiser_the_inner_one_is_given() -> None:
    problem, batch = small_problem()
    inner, outer = [batch(), batch()], batch()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    with_one = forward(problem, inner, outer, InnerSettings(optimizer))
    without = forward(problem, inner, outer, InnerSettings(inner_optimizer="sgd", inner_lr=0.1))
    assert all(torch.equal(with_one.phi[name], without.phi[name]) for name in with_one.phi)


def test_a_selector_without_phi_gets_scores_of_its_weights() -> None:
    class Given(torch.nn.Module):
        signal = "influence"

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", torch.linspace(0, 1, 8))

        def forward(self) -> torch.Tensor:
            return self.weights

    base, batch = small_problem()
    problem = Problem(base.model, correlation_loss, Given(), 3)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    trained(problem, batch, optimizer)
    inner, outer = [batch(), batch()], batch()
    for name in ("auto", "jvp", "reverse", "higher", "one_step"):
        found = registry.find("engine", name)(problem, inner, outer, InnerSettings(optimizer))
        assert found.phi == {}
        assert found.weights is not None
        assert int(found.weights.count_nonzero()) == 8, name  # also for the gene whose weight is 0
