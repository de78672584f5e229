"""Hand arithmetic for the ways to combine, and for what they pass on to the weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agl.bilevel import objective
from agl.errors import UserError

PRIMARY, AUXILIARY = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([10.0, 20.0])
WAYS = [objective.balanced, objective.sum, objective.weighted_mean]


def test_balanced_by_hand() -> None:
    # (1 + 2 + 6) / 3 + 0.5 * (1 * 10 + 0.25 * 20) / 1.25
    assert float(objective.balanced(PRIMARY, AUXILIARY, torch.tensor([1.0, 0.25]), strength=0.5)) == 3 + 0.5 * 12


def test_sum_by_hand() -> None:
    assert float(objective.sum(PRIMARY, AUXILIARY, torch.tensor([1.0, 0.25]), strength=2.0)) == 9 + 2 * 15


def test_weighted_mean_by_hand() -> None:
    # Released code: primaries have weight 1, everything divided by the sum of weights.
    found = objective.weighted_mean(PRIMARY, AUXILIARY, torch.tensor([1.0, 0.5]))
    assert float(found) == pytest.approx((9 + 20) / (3 + 1.5))
    half = objective.weighted_mean(PRIMARY, AUXILIARY, torch.tensor([1.0, 0.5]), strength=0.5)
    assert float(half) == pytest.approx((9 + 10) / (3 + 0.75))


@pytest.mark.parametrize("combine", WAYS)
def test_zero_weights_leave_the_primary_genes(combine: objective.Combine) -> None:
    alone = combine(PRIMARY, torch.empty(0), torch.empty(0))
    assert float(combine(PRIMARY, AUXILIARY, torch.zeros(2))) == float(alone)
    assert float(alone) == (9.0 if combine is objective.sum else 3.0)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (objective.balanced, [2.0 * 10 / 1.25, 2.0 * 20 / 1.25]),
        (objective.sum, [20.0, 40.0]),
        (objective.weighted_mean, [2.0 * 10 / (3 + 2 * 1.25), 2.0 * 20 / (3 + 2 * 1.25)]),
    ],
)
def test_the_normaliser_has_no_derivative(combine: objective.Combine, expected: list[float]) -> None:
    weights = torch.tensor([1.0, 0.25], requires_grad=True)
    combine(PRIMARY, AUXILIARY, weights, strength=2.0).backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.tensor(expected))


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    losses=st.lists(st.floats(-5, 5), min_size=9, max_size=9),
    strength=st.floats(0, 10),
)
@pytest.mark.parametrize("combine", WAYS)
def test_coefficients_say_the_same(
    combine: objective.Combine, weights: list[float], losses: list[float], strength: float
) -> None:
    w = torch.tensor(weights, dtype=torch.float64)
    values = torch.tensor(losses[: 3 + len(weights)], dtype=torch.float64)
    c = objective.coefficients(combine, w, 3, strength=strength)
    direct = combine(values[:3], values[3:], w, strength=strength)
    torch.testing.assert_close((c * values).sum(), direct, rtol=1e-9, atol=1e-9)


def test_coefficients_follow_the_weights() -> None:
    weights = torch.tensor([1.0, 0.25], dtype=torch.float64, requires_grad=True)
    c = objective.coefficients(objective.balanced, weights, 3)
    (slope,) = torch.autograd.grad(c[3], weights)
    assert slope.tolist() == [1 / 1.25, 0.0]


def test_a_combination_that_is_not_linear_is_refused() -> None:
    def log_sum(
        primary: torch.Tensor, auxiliary: torch.Tensor, weights: torch.Tensor, *, strength: float
    ) -> torch.Tensor:
        return torch.logsumexp(torch.cat([primary, weights * auxiliary]), 0)

    with pytest.raises(UserError, match=r"received 'log_sum', which is not; use balanced"):
        objective.coefficients(log_sum, torch.ones(2), 3)
