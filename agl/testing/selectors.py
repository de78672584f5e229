"""Does a selector fit? For ours, and for yours.

>>> from agl.genes.selectors import DkGSB
>>> check_selector(DkGSB, prior="mean")
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from agl.genes.candidates import Candidates
from agl.genes.signal import Signal
from agl.testing.gene_sets import example_candidates, permuted

SIGNALS = get_args(Signal)


def check_selector(make: Callable[..., Any], **options: Any) -> None:
    """Assert the contract of a selector: `make(candidates, **options)` is an nn.Module whose value is the weights.

    Weights `[aux]` in [0, 1]; `k` and `chosen()` agree with them; they follow their genes to another order of the
    candidates; derivatives for the parameters agree with finite differences; a saved and loaded state goes on with
    the same bits; no candidates and one candidate are no problem.
    """
    candidates = example_candidates()
    selector = make(candidates, **options)
    assert isinstance(selector, torch.nn.Module), f"Expected an nn.Module, received {type(selector).__name__}."
    assert getattr(selector, "signal", None) in SIGNALS, f"Expected .signal as one of {', '.join(SIGNALS)}."
    check_weights(selector, len(candidates))
    check_pure(selector)
    learn(selector, steps=12)
    check_weights(selector, len(candidates))
    check_derivatives(selector)
    check_resume(lambda: make(example_candidates(), **options))
    _check_order(make, candidates, options)
    for n_aux in (0, 1):
        few = make(example_candidates(n_aux=n_aux), **options)
        check_weights(few, n_aux)
        learn(few, steps=12)
        check_weights(few, n_aux)


def check_weights(selector: Any, n_genes: int) -> None:
    """Assert that the weights are `[aux]`, in [0, 1], and that `k` and `chosen()` say the same."""
    weights = selector()
    assert isinstance(weights, Tensor), f"Expected a tensor of weights, received {type(weights).__name__}."
    assert weights.shape == (n_genes,), f"Expected shape ({n_genes},), received {tuple(weights.shape)}."
    assert weights.is_floating_point(), f"Expected floating-point weights, received {weights.dtype}."
    assert bool(((weights >= 0) & (weights <= 1)).all()), "Expected weights in [0, 1], received others (or NaN)."
    chosen = selector.chosen()
    assert chosen.dtype == torch.bool, f"Expected chosen() as bool, received {chosen.dtype}."
    assert torch.equal(chosen, weights.detach() >= 0.5), "Expected chosen() to be the weights of at least 0.5."
    assert isinstance(selector.k, int), f"Expected k as int, received {type(selector.k).__name__}."
    assert selector.k == int(chosen.sum()), f"Expected k = {int(chosen.sum())} as chosen() says, received {selector.k}."


def check_pure(selector: Any) -> None:
    """Assert that the weights are a function of parameters and buffers alone, and leave them as they were."""
    before = copy.deepcopy(selector.state_dict())
    parameters = {name: value.detach().clone() for name, value in selector.named_parameters()}
    pure = torch.func.functional_call(selector, parameters, ())
    assert torch.equal(pure, selector()), "Expected functional_call with the same parameters to give the same weights."
    after = selector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "Expected forward() to change no state."


def check_derivatives(selector: Any) -> None:
    """Assert that reverse and forward mode agree with finite differences in float64."""
    exact = copy.deepcopy(selector).double()
    parameters = {name: value.detach().clone() for name, value in exact.named_parameters()}
    if selector.signal == "hypergradient":
        assert parameters, "Expected parameters in a selector that learns by the hypergradient, found none."
    if not parameters:
        return
    names, values = zip(*parameters.items(), strict=True)

    def weights(*new: Tensor) -> Tensor:
        return torch.func.functional_call(exact, dict(zip(names, new, strict=True)), ())

    inputs = tuple(value.requires_grad_() for value in values)
    torch.autograd.gradcheck(weights, inputs, check_forward_ad=True, eps=1e-6, atol=1e-5, rtol=1e-4)


def check_resume(make: Callable[[], Any]) -> None:
    """Assert that a state saved half way, loaded into a fresh selector, goes on to the same bits."""
    whole, first = make(), make()
    learn(whole, steps=14)
    learn(first, steps=6)
    second = make()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(first(), second()), "Expected a loaded state to give the same weights; is all of it in buffers?"
    learn(second, steps=14, start=6)
    assert torch.equal(whole(), second()), (
        "Expected a resumed selector to end with the same bits as an uninterrupted one."
    )


def learn(selector: Any, *, steps: int, start: int = 0) -> None:
    """Let a selector learn from made-up signals, a function of the step and of the gene's position."""
    for step in range(start, steps):
        if hasattr(selector, "on_epoch"):
            selector.on_epoch(step, 20)
        n = len(selector())
        signal = _signal(selector.signal, step, n)
        if selector.signal == "hypergradient":
            _descend(selector, signal)
        else:
            selector.observe(signal)
        selector.project()


def _signal(kind: str, step: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    noise = torch.randn(n, generator=generator)
    trend = torch.linspace(-1, 1, n)
    if kind == "losses":
        return (1.5 + trend) * (1 + 0.1 * noise).abs() * 0.95**step
    return (trend + 0.5 * noise).clamp(-1, 1) if kind == "similarity" else 1e-3 * (trend + 0.5 * noise)


def _descend(selector: Any, gradient: Tensor) -> None:
    parameters = [p for p in selector.parameters() if p.requires_grad]
    slopes = torch.autograd.grad((selector() * gradient).sum(), parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                parameter -= 0.05 * slope / (slope.norm() + 1e-12)


def _check_order(make: Callable[..., Any], candidates: Candidates, options: dict[str, Any]) -> None:
    order = np.random.default_rng(2).permutation(len(candidates))
    here, there = make(candidates, **options), make(permuted(candidates, order), **options)
    for step in range(12):
        signal = _signal(here.signal, step, len(candidates))
        if here.signal != "hypergradient":
            here.observe(signal)
            there.observe(signal[torch.from_numpy(order)])
    torch.testing.assert_close(
        there(),
        here()[torch.from_numpy(order)],
        rtol=1e-4,
        atol=1e-5,
        msg=lambda text: f"Weights must follow genes: {text}",
    )
