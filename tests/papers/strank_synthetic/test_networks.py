"""Networks on the line against torch.nn, torch.optim, autograd and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agl.errors import UserError
from agl.papers.strank_synthetic.lines import running_sums
from agl.papers.strank_synthetic.networks import Networks
from agl.papers.strank_synthetic.points import Points

HIDDEN = [(1,), (16,), (300,), (5, 7), (33, 20)]


def generators(runs: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(runs)]


def gradients(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def flat(networks: Networks, run: int) -> list[torch.Tensor]:
    found = [parameter.grad[run] for parameter in networks.parameters]
    return [found[0], found[1], found[2].T, found[3], *found[4:]]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("spots", [1, 2, 65])
def test_scores_and_gradients_are_those_of_torch_nn(hidden, spots, as_module):
    networks = Networks(hidden, generators(3), dtype=torch.float64)
    x = torch.randn(3, spots, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    g = torch.randn(3, spots, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scores = networks.forward(Points.of(x))
    modules = [as_module(networks, run) for run in range(3)]
    expected = torch.stack([module(row[:, None])[:, 0] for module, row in zip(modules, x, strict=True)])
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)
    (expected * g).sum().backward()
    networks.backward(Points.of(x), g)
    for run, module in enumerate(modules):
        for mine, theirs in zip(flat(networks, run), gradients(module), strict=True):
            torch.testing.assert_close(mine.reshape(theirs.shape), theirs, rtol=1e-10, atol=1e-12)


def test_scores_are_those_of_a_plain_loop():
    networks = Networks((3, 2), generators(1), dtype=torch.float64)
    w, b, weights, c, v, d = (parameter[0].tolist() for parameter in networks.parameters)
    for x in (-2.0, 0.1, 3.5):
        hidden = [max(0.0, w[h] * x + b[h]) for h in range(3)]
        lines = [sum(hidden[h] * weights[h][k] for h in range(3)) + c[k] for k in range(2)]
        score = sum(max(0.0, lines[k]) * v[k] for k in range(2)) + d[0]
        found = networks.forward(Points.of(torch.tensor([[x]], dtype=torch.float64)))
        assert found.item() == pytest.approx(score, abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=20),
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
)
def test_flat_units_equal_knots_and_spots_on_knots(as_module, units, spots):
    """Weights of exactly 0, units with the same knot, repeated spots, spots on a knot: as in torch."""
    networks = Networks((len(units), 3), generators(1), dtype=torch.float64)
    networks.w.copy_(torch.tensor([[float(w) for w, _ in units]]))
    networks.b.copy_(torch.tensor([[float(b) for _, b in units]]))
    x = torch.tensor([[float(spot) for spot in spots]], dtype=torch.float64)
    module = as_module(networks, 0)
    expected = module(x[0][:, None])[:, 0]
    torch.testing.assert_close(networks.forward(Points.of(x))[0], expected, rtol=1e-12, atol=1e-12)
    # Off the knots the gradients agree too; on one, relu's slope is a convention.
    x = x + 0.25
    if any(w and any(abs(w * s + b) < 1e-9 for s in x[0].tolist()) for w, b in units):
        return
    networks.forward(Points.of(x))
    g = torch.linspace(-1, 2, x.shape[1], dtype=torch.float64)
    (module(x[0][:, None])[:, 0] * g).sum().backward()
    networks.backward(Points.of(x), g[None])
    for mine, theirs in zip(flat(networks, 0), gradients(module), strict=True):
        torch.testing.assert_close(mine.reshape(theirs.shape), theirs, rtol=1e-10, atol=1e-11)


def test_a_unit_that_no_spot_reaches_has_a_gradient_of_exactly_zero():
    """In float32, where rounding would otherwise be left over, and Adam would make steps of it."""
    networks = Networks((64, 32), generators(1))
    networks.w[0, :2] = torch.tensor([1.0, -1.0])
    networks.b[0, :2] = torch.tensor([-1.5, -0.5])  # active right of 1.5, left of -0.5
    x = torch.rand(1, 500, generator=torch.Generator().manual_seed(0))
    networks.forward(Points.of(x))
    networks.backward(Points.of(x), torch.randn(1, 500, generator=torch.Generator().manual_seed(0)))
    for parameter in (networks.w, networks.b, networks.W):
        assert (parameter.grad[0, :2] == 0).all()
        assert (parameter.grad[0, 2:] != 0).any()


@pytest.mark.parametrize("hidden", [(16,), (12, 9)])
def test_training_side_by_side_is_training_alone(hidden, as_module):
    """Twenty AdamW steps of four networks at once, and of each in torch.nn with torch.optim."""
    networks = Networks(hidden, generators(4), dtype=torch.float64)
    modules = [as_module(networks, run) for run in range(4)]
    together = torch.optim.AdamW(networks.parameters, lr=1e-2)
    alone = [torch.optim.AdamW(module.parameters(), lr=1e-2) for module in modules]
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y = (torch.rand(4, 30, dtype=torch.float64, generator=rng) for _ in range(2))
        scores = networks.forward(Points.of(x)).clone()
        networks.backward(Points.of(x), scores - y)
        together.step()
        for run, (module, optimizer) in enumerate(zip(modules, alone, strict=True)):
            optimizer.zero_grad()
            (0.5 * (module(x[run][:, None])[:, 0] - y[run]) ** 2).sum().backward()
            optimizer.step()
    x = torch.rand(4, 50, dtype=torch.float64, generator=rng)
    expected = torch.stack([module(row[:, None])[:, 0] for module, row in zip(modules, x, strict=True)])
    torch.testing.assert_close(networks.forward(Points.of(x)), expected, rtol=1e-8, atol=1e-10)


def test_networks_start_as_torch_linear_starts():
    """Uniform within 1 / sqrt(inputs): the same bounds and, over many draws, the same spread as torch's."""
    networks = Networks((400, 300), generators(2))
    torch.manual_seed(0)
    layers = [nn.Linear(1, 400), nn.Linear(400, 300), nn.Linear(300, 1)]
    pairs = [(networks.w, layers[0].weight), (networks.W, layers[1].weight), (networks.v, layers[2].weight)]
    for mine, theirs in [*pairs, (networks.b, layers[0].bias), (networks.c, layers[1].bias)]:
        bound = 1 / np.sqrt(1 if theirs.shape[0] == 400 else theirs.shape[-1] if theirs.ndim > 1 else 400)
        assert mine.abs().max() <= bound
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.15)


def test_a_network_does_not_depend_on_its_neighbours():
    many, one = Networks((8,), generators(5)), Networks((8,), [np.random.default_rng(3)])
    x = torch.rand(5, 20)
    assert torch.equal(many.forward(Points.of(x))[3], one.forward(Points.of(x[3:4]))[0])


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 129])
@pytest.mark.parametrize("lines", [1, 4])
def test_running_sums_are_cumsum(rows, lines):
    table = torch.randn(3, rows, lines, dtype=torch.float64)
    torch.testing.assert_close(running_sums(table.clone()), table.cumsum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (1, 2, 3), (0,), (4, 0)])
def test_other_depths_are_refused(hidden):
    with pytest.raises(UserError, match="one or two hidden layers"):
        Networks(hidden, generators(1))
