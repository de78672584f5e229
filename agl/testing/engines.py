"""The contract of a bi-level engine, ours or yours.

An engine is a function `(problem, inner_batches, outer_batch, settings, *, ...) -> HyperGradient`, with settings from
`agl.bilevel.settings`. It must leave the live model, its buffers, gradients, modes, optimiser and the random state
alone, answer the same twice, name phi as the selector does, stay finite, refuse a model that shares nothing, and, if it
claims to be exact, agree with finite differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agl.bilevel.engines import Engine, finite_difference
from agl.bilevel.problem import Problem
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError
from agl.models.predictor import Predictor, Start


class SomeSpots(NamedTuple):
    """A batch, as far as an engine looks at it."""

    inputs: Tensor
    counts: Tensor
    library_size: Tensor
    slides: Tensor


class Threshold(nn.Module):
    """A cut-off on the rank of a gene, with phi = (threshold, tilt): smooth, so that differences are accurate."""

    signal = "hypergradient"
    rank: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.4))
        self.tilt = nn.Parameter(torch.tensor([0.1, -0.2]))
        self.register_buffer("rank", torch.linspace(0, 1, n_genes))

    def forward(self) -> Tensor:
        bent = self.rank + self.tilt[0] * self.rank**2 + self.tilt[1] * torch.sin(3 * self.rank)
        return torch.sigmoid((self.threshold - bent) / 0.1)


def correlation_loss(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    """1 - Pearson correlation over the spots of the batch, smoothed: a loss of no package, for tests of engines."""
    s, c = scores - scores.mean(0), counts.to(scores.dtype) - counts.to(scores.dtype).mean(0)
    return 1 - (s * c).sum(0) / (s.square().sum(0) * c.square().sum(0) + 1e-6).sqrt()


def small_problem(
    trunk: str = "mlp",
    *,
    n_primary: int = 3,
    n_genes: int = 11,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **options: object,
) -> tuple[Problem, Callable[[], SomeSpots]]:
    """A small problem and a maker of batches; `trunk` is mlp, dropout, batchnorm, cnn, attention, none, or started: an
    mlp that adds to fixed scores."""
    generator = torch.Generator().manual_seed(seed)
    with _seeded(seed):
        layers: dict[str, Callable[[], nn.Module]] = {
            "mlp": lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU()),
            "dropout": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.3)),
            "batchnorm": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(inplace=True)),
            "cnn": lambda: nn.Sequential(
                nn.Conv2d(2, 5, 3, bias=False),
                nn.BatchNorm2d(5),
                nn.SiLU(),
                nn.MaxPool2d(2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            ),
            "attention": lambda: nn.Sequential(
                nn.Unflatten(1, (3, 2)),
                nn.Linear(2, 5),
                nn.TransformerEncoderLayer(5, 1, 7, dropout=0.1, batch_first=True),
                nn.AdaptiveAvgPool2d((1, 5)),
                nn.Flatten(),
            ),
            "none": lambda: nn.Identity(),
            "started": lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU()),
        }
        start = Start(6, n_genes) if trunk == "started" else None
        model = Predictor(layers[trunk](), 6 if trunk == "none" else 5, n_genes, start).to(dtype)
        if start is not None:
            start.take(torch.randn(6, n_genes), torch.randn(n_genes))
    selector = Threshold(n_genes - n_primary).to(dtype)
    problem = Problem(model, correlation_loss, selector, n_primary, **options)  # type: ignore[arg-type]
    shape = (8, 2, 8, 8) if trunk == "cnn" else (8, 6)

    def batch() -> SomeSpots:
        inputs = torch.randn(shape, generator=generator, dtype=dtype)
        counts = torch.poisson(torch.full((8, n_genes), 3.0), generator=generator)
        return SomeSpots(inputs, counts, counts.sum(1).to(dtype), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))

    return problem, batch


def trained(problem: Problem, batch: Callable[[], SomeSpots], optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    """A few plain training steps, so that the optimiser has moments; what dropout leaves out is the same every time."""
    with _seeded(0):
        for _ in range(steps):
            here = batch()
            optimizer.zero_grad()
            losses = correlation_loss(
                problem.model(here.inputs), here.counts, slides=here.slides, library_size=here.library_size
            )
            losses.mean().backward()
            optimizer.step()


@contextmanager
def untouched(problem: Problem, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Fails if anything live differs afterwards: parameters, buffers, gradients, modes, optimiser, random state."""
    modules = [module for part in (problem.model, problem.selector) for module in part.modules()]
    parameters = [*problem.model.parameters(), *problem.selector.parameters()]
    tensors = [*parameters, *problem.model.buffers(), *problem.selector.buffers()]
    tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    copies, versions = [tensor.detach().clone() for tensor in tensors], [tensor._version for tensor in tensors]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.5)
    flags, state = [module.training for module in modules], torch.get_rng_state()
    yield
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True)), "a live tensor has changed"
    assert versions == [tensor._version for tensor in tensors], "a live tensor was written to"
    kept = all(p.grad is not None and bool((p.grad == 0.5).all()) for p in parameters)
    assert kept, "a .grad has changed"
    assert flags == [module.training for module in modules], "a train/eval mode has changed"
    assert torch.equal(state, torch.get_rng_state()), "the random state has changed"


def check_engine(engine: Engine, *, exact: bool, steps: int = 2, tolerance: float = 1e-6) -> None:
    """Raise AssertionError with a sentence where the engine breaks the contract.

    Args:
        engine: the engine under test.
        exact: it claims the exact hypergradient for `steps` inner steps; compared with finite differences in float64.
    """
    for trunk in ("mlp", "dropout", "batchnorm", "cnn", "attention", "started"):
        problem, batch = small_problem(trunk)
        optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
        trained(problem, batch, optimizer)
        inner, outer = [batch() for _ in range(steps)], batch()
        settings = InnerSettings(optimizer, seed=7)
        with untouched(problem, optimizer):
            found = engine(problem, inner, outer, settings)
        again = engine(problem, inner, outer, settings)
        shapes = {name: p.shape for name, p in problem.selector.named_parameters()}
        assert {name: v.shape for name, v in found.phi.items()} == shapes, (
            "phi is not named and shaped as the selector's"
        )
        assert all(torch.equal(found.phi[name], again.phi[name]) for name in shapes), "two calls differ"
        assert all(v.isfinite().all() for v in found.phi.values()), f"the hypergradient on {trunk} is not finite"
        assert not any(v.requires_grad for v in found.phi.values()), "the hypergradient carries a graph"
        if found.weights is not None:
            assert found.weights.shape == (problem.n_auxiliary,), "weights is not [aux]"
        if exact:
            witness = finite_difference(problem, inner, outer, settings)
            for name, value in witness.phi.items():
                error = float((found.phi[name] - value).abs().max() / value.abs().max())
                assert error < tolerance, f"{name} on {trunk} is off by {error:.1e} relative"
    _check_refusal(engine)


def _check_refusal(engine: Engine) -> None:
    """A model that shares nothing: a sentence, or a zero that says why."""
    problem, batch = small_problem("none")
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    try:
        found = engine(problem, [batch()], batch(), InnerSettings(optimizer))
    except UserError as error:
        said = "shared trainable trunk" in str(error)
    else:
        said = bool(found.zero)
    assert said, "a model without shared parameters was neither refused with the reason nor called zero"


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
