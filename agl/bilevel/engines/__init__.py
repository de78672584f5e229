"""Ways to get the hypergradient d outer(theta+) / d phi, one argument apart.

An engine is a function `(problem, inner_batches, outer_batch, settings, *, ...) -> HyperGradient` with settings from
`agl.bilevel.settings` and options of its own. It reads the live model and its optimiser and leaves them, their buffers,
gradients and the random state as they were. By name they are in `agl.builtins`.

| engine | exact | for | memory |
|---|---|---|---|
| auto | as the one it takes | everything | |
| forward | yes | a few hyper-parameters, or many inner steps | flat in the number of inner steps |
| jvp | for one inner step | every gene | about a plain step's |
| reverse | yes | every gene | the state of every inner step |
| higher | yes | every gene | the graph of every inner step |
| one_step | for one inner step, by differences | every gene | about a plain step's |
| finite_difference | nearly | a handful; a witness | a plain step's |
| none | | nothing: zero | |
| closed_form | yes, without inner steps | models that are solved (`agl.estimators`) | features squared |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from agl.bilevel.engines.finite_difference import finite_difference
from agl.bilevel.engines.forward import forward
from agl.bilevel.engines.higher_engine import higher
from agl.bilevel.engines.jvp import jvp
from agl.bilevel.engines.one_step import one_step
from agl.bilevel.engines.reverse import reverse
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.settings import InnerSettings

Engine = Callable[[Problem, Sequence[BatchLike], BatchLike, InnerSettings], HyperGradient]

HANDFUL = 8
FEW = 2

__all__ = [
    "Engine",
    "auto",
    "closed_form",
    "finite_difference",
    "forward",
    "higher",
    "jvp",
    "none",
    "one_step",
    "reverse",
]


def auto(
    problem: Problem, inner_batches: Sequence[BatchLike], outer_batch: BatchLike, settings: InnerSettings
) -> HyperGradient:
    """An exact engine for up to 8 hyper-parameters, `jvp` for more or for the influence of every gene.

    `forward` takes time and memory for each hyper-parameter, `reverse` takes memory for each inner step: `reverse`
    where there are more than 2 of the former and no more of the latter.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        settings: of the inner problem.
    """
    count = sum(value.numel() for value in problem.phi().values())
    wants_genes = getattr(problem.selector, "signal", "hypergradient") == "influence"
    chosen: Engine = jvp
    if 0 < count <= HANDFUL and not wants_genes:
        chosen = reverse if count > FEW and len(inner_batches) <= count else forward
    return chosen(problem, inner_batches, outer_batch, settings)


def none(
    problem: Problem, inner_batches: Sequence[BatchLike], outer_batch: BatchLike, settings: InnerSettings
) -> HyperGradient:
    """No hypergradient: phi stays as it is. The outer loss is read all the same."""
    with torch.no_grad():
        params = {name: parameter.detach() for name, parameter in problem.model.named_parameters()}
        loss = float(problem.outer(params, outer_batch))
        weights = torch.zeros(problem.n_auxiliary, device=problem.head.weight.device)
    zeros = {name: torch.zeros_like(value) for name, value in problem.phi().items()}
    return HyperGradient(zeros, weights, loss, loss, "the engine is 'none'")
