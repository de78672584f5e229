"""Half precision costs what float32 costs: one run of a loss serves its value and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import strank
from strank.losses import analytic

LOSSES = {
    "mse": (strank.mse, {}),
    "poisson": (strank.poisson_nll, {}),
    "negative_binomial": (strank.negative_binomial_nll, {"dispersion": 2.0}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 2}),
    "margin": (strank.margin_ranking, {}),
    "listwise": (strank.listwise_nll, {}),
    "pearson": (strank.pearson_loss, {}),
}


class Counted(analytic.Kernel):
    """A kernel that notes every run of another."""

    def __init__(self, kernel: analytic.Kernel, runs: list[bool]) -> None:
        self.kernel, self.counts, self.runs = kernel, kernel.counts, runs

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> analytic.Outcome:
        self.runs.append(gradient)
        return self.kernel.run(scores, parameter, gradient=gradient)

    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        return self.kernel.value(scores, parameter)


@pytest.fixture
def runs(monkeypatch):
    """Whether a gradient was wanted, for every run of any kernel."""
    noted: list[bool] = []

    def evaluate(kernel: analytic.Kernel, *rest: Tensor) -> Tensor:
        return analytic.evaluate(Counted(kernel, noted), *rest)

    for loss, _ in LOSSES.values():
        monkeypatch.setitem(loss.__globals__, "evaluate", evaluate)
    return noted


def call(name: str, batch, scores: Tensor) -> Tensor:
    loss, options = LOSSES[name]
    if "generator" in loss.__kwdefaults__:
        options = options | {"generator": torch.Generator().manual_seed(0)}
    return loss(scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **options).mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_one_run_gives_value_and_gradient(name, dtype, make_batch, runs):
    batch = make_batch(200, 30)
    scores = batch.scores.to(dtype).requires_grad_()
    value = call(name, batch, scores)
    (at_once,) = torch.autograd.grad(value, scores, retain_graph=True)
    assert runs == [True]
    (later,) = torch.autograd.grad(value, scores)  # nothing is left of the first run: this one is another
    assert runs == [True, True]
    assert torch.equal(at_once, later)
    assert at_once.dtype == dtype


@pytest.mark.parametrize("name", LOSSES)
def test_small_gradients_are_scaled_before_they_are_rounded(name, make_batch):
    """A mean over spots of 1e-5 is beyond half precision; what the optimiser's scaler multiplies it by is not lost."""
    batch = make_batch(4000, 5)
    scores, factor = batch.scores.half().requires_grad_(), 2.0**16
    (found,) = torch.autograd.grad(factor * call(name, batch, scores), scores)
    exact = scores.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(factor * call(name, batch, exact), exact)
    usable = expected.abs() < torch.finfo(torch.float16).max
    step = 2.0**-24  # the smallest half
    assert ((found.double() - expected).abs() <= expected.abs() * 2e-3 + step)[usable].all()


def test_a_value_alone_computes_no_gradient(make_batch, runs):
    batch = make_batch()
    for name in LOSSES:
        call(name, batch, batch.scores.half())
    assert runs == [False] * len(LOSSES)
