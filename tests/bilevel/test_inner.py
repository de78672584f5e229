"""One optimiser step against torch.optim itself, and its derivatives against autograd through the same arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agl.bilevel.inner import Rule, rule_of, rules_for, state_of, step
from agl.bilevel.inner_derivatives import step_adjoint, step_with_tangents_
from agl.errors import UserError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd with L2": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95)),
    "adam with L2": lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1, eps=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}
RULES = [
    Rule("sgd", 0.1, weight_decay=0.2),
    Rule("sgd", 0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
    Rule("sgd", 0.1, momentum=0.9, nesterov=True),
    Rule("adam", 0.02),
    Rule("adam", 0.02, weight_decay=0.3, eps=1e-2),
    Rule("adamw", 0.02, weight_decay=0.3),
    Rule("adam_higher", 0.02, weight_decay=0.3, eps=1e-3),
]


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torchs_bit_for_bit(name: str, dtype: torch.dtype, warm: bool) -> None:
    parameter = torch.nn.Parameter(_random(7, 5).to(dtype))
    optimizer = OPTIMIZERS[name]([parameter])
    for t in range(4 if warm else 0):
        parameter.grad = _random(7, 5, seed=t + 1).to(dtype)
        optimizer.step()
    rule = rule_of(optimizer, optimizer.param_groups[0])
    slots, count = state_of(rule, parameter, optimizer, warm=True)
    value = parameter.detach().clone()
    slots = tuple(slot.clone() for slot in slots)
    for t in range(5):
        gradient = _random(7, 5, seed=50 + t).to(dtype)
        parameter.grad = gradient.clone()
        optimizer.step()
        value, slots = step(rule, value, gradient, slots, count + t + 1)
        assert torch.equal(value, parameter.detach())


def test_adam_higher_puts_eps_before_the_bias_correction() -> None:
    # By hand, first step with g = 2: m = 0.2, v = 0.004; theta - lr sqrt(1 - b2) / (1 - b1) * m / (sqrt(v) + eps)
    rule, zero = Rule("adam_higher", lr=0.1, eps=0.5), torch.zeros(1, dtype=torch.float64)
    value, _ = step(rule, zero + 1, zero + 2, (zero, zero), 1)
    assert float(value) == pytest.approx(1 - 0.1 * 0.001**0.5 / 0.1 * 0.2 / (0.004**0.5 + 0.5), rel=1e-12)


def _differentiable_step(rule: Rule, p: Tensor, g: Tensor, slots: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """The textbook step out of place, for autograd to differentiate."""
    if rule.kind != "adamw":
        g = g + rule.weight_decay * p
    if rule.kind == "sgd":
        if not rule.momentum:
            return (p - rule.lr * g,)
        buffer = g if count == 1 else rule.momentum * slots[0] + (1 - rule.dampening) * g
        return p - rule.lr * (g + rule.momentum * buffer if rule.nesterov else buffer), buffer
    b1, b2 = rule.betas
    m, v = b1 * slots[0] + (1 - b1) * g, b2 * slots[1] + (1 - b2) * g * g
    if rule.kind == "adamw":
        p = p * (1 - rule.lr * rule.weight_decay)
    if rule.kind == "adam_higher":
        moved = p - rule.lr * (1 - b2**count) ** 0.5 / (1 - b1**count) * m / (v.sqrt() + rule.eps)
    else:
        moved = p - rule.lr * (m / (1 - b1**count)) / ((v / (1 - b2**count)).sqrt() + rule.eps)
    return moved, m, v


def _state(rule: Rule, count: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    slots = (_random(4, 3, seed=3), _random(4, 3, seed=4).square())[: rule.n_slots]
    if count == 1:
        slots = tuple(torch.zeros_like(slot) for slot in slots)
    return _random(4, 3, seed=1), _random(4, 3, seed=2), slots


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_tangents_are_autograds(rule: Rule, count: int) -> None:
    p, g, slots = _state(rule, count)
    directions = [(_random(4, 3, seed=10 + i), _random(4, 3, seed=20 + i)) for i in range(2)]
    slot_directions = [tuple(_random(4, 3, seed=30 + 5 * i + j) for j in range(rule.n_slots)) for i in range(2)]
    if count == 1:  # nothing has been averaged yet
        slot_directions = [tuple(torch.zeros_like(s) for s in each) for each in slot_directions]
    expected = [
        torch.func.jvp(
            lambda p, g, *s: _differentiable_step(rule, p, g, s, count), (p, g, *slots), (*along, *slot_along)
        )
        for along, slot_along in zip(directions, slot_directions, strict=True)
    ]
    value, values = p.clone(), tuple(s.clone() for s in slots)
    tangents = torch.stack([dp for dp, _ in directions])
    slot_tangents = tuple(torch.stack(each) for each in zip(*slot_directions, strict=True))
    step_with_tangents_(
        rule, value, g.clone(), values, count, tangents, torch.stack([dg for _, dg in directions]), slot_tangents
    )
    for i, (primal, tangent) in enumerate(expected):
        torch.testing.assert_close((value, *values), primal, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close((tangents[i], *(s[i] for s in slot_tangents)), tangent, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_adjoints_are_autograds(rule: Rule, count: int) -> None:
    p, g, slots = _state(rule, count)
    leaves = [t.clone().requires_grad_() for t in (p, g, *slots)]
    outputs = _differentiable_step(rule, leaves[0], leaves[1], tuple(leaves[2:]), count)
    given = [_random(4, 3, seed=60 + i) for i in range(len(outputs))]
    expected = torch.autograd.grad(outputs, leaves, given, allow_unused=True, materialize_grads=True)
    before, along, slot_adjoints = step_adjoint(rule, p, g, slots, count, given[0], tuple(given[1:]))
    # autograd's adjoint of p has no part through g, as g is a leaf of its own here; L2 is part of the step
    torch.testing.assert_close(before, expected[0], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(along, expected[1], rtol=1e-11, atol=1e-13)
    if count > 1:
        torch.testing.assert_close(slot_adjoints, tuple(expected[2:]), rtol=1e-11, atol=1e-13)


def test_a_dead_parameter_has_finite_tangents() -> None:
    zero = torch.zeros(3)
    tangents, gradient_tangents = torch.zeros(1, 3), torch.ones(1, 3)
    slot_tangents = (torch.zeros(1, 3), torch.zeros(1, 3))
    state = (zero.clone(), zero.clone())
    step_with_tangents_(
        Rule("adam", 0.1), zero.clone(), zero.clone(), state, 1, tangents, gradient_tangents, slot_tangents
    )
    # m = 0.1 dg, over (1 - b1) = 0.1 and eps: -lr / eps
    torch.testing.assert_close(tangents, torch.full((1, 3), -0.1 / 1e-8))
    along = step_adjoint(Rule("adam", 0.1), zero, zero, state, 1, torch.ones(3), state)[1]
    assert bool(along.isfinite().all())


class TestRules:
    parameter = torch.nn.Parameter(torch.ones(2))

    def test_a_parameter_outside_the_optimiser_has_no_rule(self) -> None:
        other = torch.nn.Parameter(torch.ones(2))
        found = rules_for([self.parameter, other], torch.optim.SGD([self.parameter], lr=0.5))
        assert found == [Rule("sgd", 0.5), None]

    def test_a_frozen_parameter_has_no_rule(self) -> None:
        frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        assert rules_for([frozen], torch.optim.SGD([frozen], lr=0.5)) == [None]

    def test_groups_keep_their_constants(self) -> None:
        other = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.AdamW(
            [{"params": [self.parameter], "lr": 1.0}, {"params": [other]}], lr=0.5, weight_decay=0
        )
        assert [rule.lr for rule in rules_for([self.parameter, other], optimizer) if rule] == [1.0, 0.5]

    def test_another_formula_on_the_same_moments(self) -> None:
        optimizer = torch.optim.Adam([self.parameter], lr=0.5, betas=(0.5, 0.6))
        (rule,) = rules_for([self.parameter], optimizer, "adam_higher")
        assert rule == Rule("adam_higher", 0.5, betas=(0.5, 0.6))

    def test_a_tensor_learning_rate(self) -> None:
        optimizer = torch.optim.Adam([self.parameter], lr=torch.tensor(0.5))
        assert rules_for([self.parameter], optimizer) == [Rule("adam", 0.5)]

    @pytest.mark.parametrize(
        ("optimizer", "kind", "lr", "message"),
        [
            (torch.optim.RMSprop([parameter]), None, None, "received RMSprop; train with one of them"),
            (torch.optim.Adam([parameter], amsgrad=True), None, None, "received amsgrad=True; switch it off"),
            (torch.optim.Adam([parameter]), "sgd", None, "Expected inner_lr with inner_optimizer=sgd"),
            (torch.optim.Adam([parameter]), "adamax", None, "Did you mean 'adam"),
            (None, "sgd", None, "give inner_optimizer and inner_lr instead"),
        ],
    )
    def test_refusals(
        self, optimizer: torch.optim.Optimizer | None, kind: str | None, lr: float | None, message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            rules_for([self.parameter], optimizer, kind, lr)
