"""The compiled walk against `torch.nn` in float64, and against itself: threads, neighbours, memory layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agl.papers.strank_synthetic import native, networks
from agl.papers.strank_synthetic.lines import Lines
from agl.papers.strank_synthetic.networks import Networks
from agl.papers.strank_synthetic.points import Points

HIDDEN = [(1,), (16,), (300,), (1, 1), (5, 7), (33, 20), (16, 32), (40, 100)]

pytestmark = pytest.mark.skipif(native.library is None, reason="the package was installed without a compiler")


def generators(runs: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(runs)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def expected(compiled: Networks, as_module, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, list]:
    """Scores and gradients of torch.nn in float64, the gradients as `Networks` lays them out."""
    scores, gradients = [], []
    for run in range(len(x)):
        module = as_module(compiled, run)
        scores.append(module(x[run].double()[:, None])[:, 0])
        (scores[-1] * g[run].double()).sum().backward()
        found = [parameter.grad for parameter in module.parameters()]
        found[2] = found[2].T
        gradients.append(found)
    return torch.stack(scores), gradients


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("spots", [1, 2, 65, 256])
def test_scores_and_gradients_are_those_of_torch_nn(hidden, spots, as_module):
    compiled = Networks(hidden, generators(3))
    assert all(isinstance(walk, native.CompiledLines) for walk in compiled._walks)
    x, g = random(3, spots), random(3, spots, seed=1)
    scores, gradients = expected(compiled, as_module, x, g)
    torch.testing.assert_close(compiled.forward(Points.of(x)).double(), scores, rtol=1e-5, atol=1e-6)
    compiled.backward(Points.of(x), g)
    for run in range(3):
        for mine, theirs in zip(compiled.parameters, gradients[run], strict=True):
            size = theirs.abs().max().item()
            torch.testing.assert_close(
                mine.grad[run].double().reshape(theirs.shape), theirs, rtol=1e-4, atol=3e-6 * (1 + size)
            )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=20),
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.sampled_from([None, 3, 32]),
)
def test_flat_units_equal_knots_and_spots_on_knots(units, spots, lines):
    """Weights of exactly 0, units with the same knot, repeated spots, spots on a knot: as the torch version."""
    hidden = (len(units),) if lines is None else (len(units), lines)
    compiled, plain = Networks(hidden, generators(1)), Networks(hidden, generators(1), dtype=torch.float64)
    assert isinstance(plain._walks[0], Lines)
    for some in (compiled, plain):
        some.w.copy_(torch.tensor([[float(w) for w, _ in units]]))
        some.b.copy_(torch.tensor([[float(b) for _, b in units]]))
    x, g = torch.tensor([[float(spot) for spot in spots]]), torch.linspace(-1, 2, len(spots))[None]
    mine, theirs = compiled.forward(Points.of(x)), plain.forward(Points.of(x.double()))
    torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-5)
    compiled.backward(Points.of(x), g)
    plain.backward(Points.of(x.double()), g.double())
    for one, other in zip(compiled.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("hidden", [(64,), (64, 32), (64, 7)])
def test_a_unit_that_no_spot_reaches_has_a_gradient_of_exactly_zero(hidden):
    compiled = Networks(hidden, generators(1))
    compiled.w[0, :2] = torch.tensor([1.0, -1.0])
    compiled.b[0, :2] = torch.tensor([-1.5, -0.5])  # active right of 1.5, left of -0.5
    points = Points.of(torch.rand(1, 500, generator=torch.Generator().manual_seed(0)))
    compiled.forward(points)
    compiled.backward(points, random(1, 500))
    for parameter in (compiled.w, compiled.b, compiled.W):
        assert (parameter.grad[0, :2] == 0).all()
        assert (parameter.grad[0, 2:] != 0).any()


@pytest.mark.parametrize("hidden", [(16,), (12, 9), (20, 40)])
def test_steps_are_the_torch_versions(hidden):
    """Twenty AdamW steps, in which knots pass each other."""
    compiled, plain = Networks(hidden, generators(4)), Networks(hidden, generators(4), dtype=torch.float64)
    optimizers = [torch.optim.AdamW(some.parameters, lr=1e-2, fused=True) for some in (compiled, plain)]
    for step in range(20):
        x, y = random(4, 30, seed=step), random(4, 30, seed=100 + step)
        for some, optimizer in zip((compiled, plain), optimizers, strict=True):
            points = Points.of(x.to(some.w.dtype))
            some.backward(points, some.forward(points) - y.to(some.w.dtype))
            optimizer.step()
    points = Points.of(random(4, 50))
    theirs = plain.forward(Points(points.rising.double(), points.order))
    torch.testing.assert_close(compiled.forward(points).double(), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("hidden", [(16,), (12, 40)])
def test_threads_neighbours_and_memory_layout_leave_the_bits_alone(hidden):
    def trained(runs: slice, threads: int, *, turned: bool) -> list[torch.Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            compiled = Networks(hidden, generators(5)[runs])
            x, g = random(5, 33)[runs], random(5, 33, seed=1)[runs]
            points = Points.of(x.T.contiguous().T if turned else x)
            scores = compiled.forward(points)
            compiled.backward(points, g.T.contiguous().T if turned else g)
            return [scores, *(parameter.grad for parameter in compiled.parameters)]
        finally:
            torch.set_num_threads(before)

    whole = trained(slice(None), 1, turned=False)
    for threads, turned in [(2, False), (7, False), (1, True)]:
        assert all(map(torch.equal, whole, trained(slice(None), threads, turned=turned)))
    assert all(
        torch.equal(one[2:4], other) for one, other in zip(whole, trained(slice(2, 4), 1, turned=True), strict=True)
    )


def test_the_order_of_knots_is_not_history():
    """A network loaded from a file goes on with the bits of the one that was saved: equal knots are sorted by unit."""
    old, new = Networks((30, 8), generators(2)), Networks((30, 8), generators(2))
    points = Points.of(random(2, 40))
    for step in range(3):  # the old one sorts knots that move
        old.w.copy_(random(2, 30, seed=step))
        old.b.copy_((random(2, 30, seed=9) * 2).round() * old.w)
        old.forward(points)
    for mine, theirs in zip(new.parameters, old.parameters, strict=True):
        mine.copy_(theirs)
    assert torch.equal(old.forward(points), new.forward(points))


@pytest.mark.parametrize("hidden", [(6,), (6, 5), (6, 32)])
@pytest.mark.parametrize("name", ["w", "b", "W", "c"])
def test_nan_is_seen(hidden, name):
    compiled = Networks(hidden, generators(2))
    getattr(compiled, name)[0, 1 if name in "wb" else 0] = torch.nan
    scores = compiled.forward(Points.of(random(2, 20)))
    seen = scores[0].isnan()
    assert seen.any() if name == "W" else seen.all()  # W's shows wherever its unit is or was active
    assert scores[1].isfinite().all()


def test_without_a_compiler_the_torch_version_serves(monkeypatch):
    compiled = Networks((9, 8), generators(2))
    monkeypatch.setattr(native, "library", None)
    plain = Networks((9, 8), generators(2))
    assert isinstance(plain._walks[0], Lines)
    assert networks.AT_ONCE[2] >= 2
    points = Points.of(random(2, 20))
    monkeypatch.undo()
    torch.testing.assert_close(compiled.forward(points), plain.forward(points), rtol=1e-5, atol=1e-6)
