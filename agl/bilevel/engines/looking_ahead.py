"""What every engine does first: read where training stands, and how the coefficients depend on phi."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from agl.bilevel.hypergradient import Dependence, HyperGradient
from agl.bilevel.lookahead import start
from agl.bilevel.problem import Problem, Spots
from agl.bilevel.scoped import differentiable

Engine = Callable[..., HyperGradient]


def looks_ahead(**defaults: Any) -> Callable[[Callable[..., HyperGradient]], Engine]:
    """Make an engine of a function `(look, at, inner_batches, outer_batch, *, ...)`.

    The engine is called with `(problem, inner_batches, outer_batch, *, optimizer, warm, inner_optimizer, inner_lr,
    seed, precision, ...)`; its own options follow those of `agl.bilevel.lookahead.start`, whose `defaults` it may
    change. The function runs in full precision, with `look` from `start` and `at` from `Dependence.at`.
    """

    def decorate(function: Callable[..., HyperGradient]) -> Engine:
        @functools.wraps(function)
        def engine(
            problem: Problem,
            inner_batches: Sequence[Spots],
            outer_batch: Spots,
            *,
            optimizer: torch.optim.Optimizer | None = None,
            **options: Any,
        ) -> HyperGradient:
            own = {name: options.pop(name) for name in function.__kwdefaults__ or () if name in options}
            with differentiable(problem.head.weight.device):
                look = start(problem, inner_batches, optimizer, **{**defaults, **options})
                return function(look, Dependence.at(problem, look.dtype), inner_batches, outer_batch, **own)

        own = [inspect.signature(function).parameters[name] for name in function.__kwdefaults__ or ()]
        engine.__signature__ = signature(*own, **defaults)  # type: ignore[attr-defined]
        return engine

    return decorate


def signature(*own: inspect.Parameter, **defaults: Any) -> inspect.Signature:
    """An engine's: the arguments of `start`, then its own options.

    >>> print(signature(seed=3))  # doctest: +ELLIPSIS
    (problem: ..., inner_batches: ..., *, optimizer: ... = None, warm: ... = True, ..., seed: 'int' = 3, ...)...
    """
    shared = inspect.signature(start).parameters
    outer_batch = inspect.Parameter("outer_batch", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Spots")
    given = [shared["problem"], shared["inner_batches"], outer_batch]
    words = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, default))
        for name, parameter in shared.items()
        if name not in ("problem", "inner_batches")
        for default in [None if name == "optimizer" else parameter.default]
    ]
    return inspect.Signature([*given, *words, *own], return_annotation="HyperGradient")
