"""Head and loss of a wide panel in one, without a table of scores `[spot, gene]`, where loss and model allow it.

It is used where counts stay sparse, that is for panels too large to be held as a table (`batches.DENSE_LIMIT`).
Measured there (`benchmarks/head.py`, 256 features, list loss): 0.9 of the time of laying the counts out and scoring
them for 256 spots x 15,000 genes and 0.6 for 2,048 x 20,000, with a twentieth of the memory. Results are those of
head and loss apart to rounding (1e-6 of a step's losses), and the same bits at every repetition; a run's hash names
its settings and stays as it is. One thing differs visibly: the bias of a gene under a loss that does not see its
level. Its gradient is nothing but rounding, either way, and Adam makes steps of that.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import strank
from agl.bilevel.objective import coefficients
from agl.data.batches import Batch
from agl.errors import UserError
from agl.models.predictor import Predictor
from agl.training.task import GeneLoss, Task

_IN_ONE: dict[GeneLoss, Callable[..., Tensor]] = {
    strank.listwise_nll: strank.linear_listwise_nll,
    strank.pairwise_nll: functools.partial(strank.linear_pairwise_nll, n_partners=1),
    strank.pearson_loss: strank.linear_pearson_loss,
    strank.poisson_nll: strank.linear_poisson_nll,
    strank.mse: strank.linear_mse,
}


class Losses(NamedTuple):
    """What is descended, and every gene's loss without a gradient."""

    total: Tensor
    per_gene: Tensor


def loss_in_one(task: Task) -> Callable[..., Tensor] | None:
    """`strank.linear_...` with the options of the task's loss; None where head and loss must stay apart.

    >>> class Plain: model, loss, merge = nn.Linear(2, 3), strank.mse, None
    >>> loss_in_one(Plain) is None  # not a trunk and a head
    True
    """
    model, given = task.model, task.loss
    loss, options = (given.func, dict(given.keywords)) if isinstance(given, functools.partial) else (given, {})
    if loss not in _IN_ONE or type(model) is not Predictor or model.start is not None or not _is_plain(model.head):
        return None
    if task.merge is not None:
        return None
    if options.pop("list_size", None) is not None or (task.gate == "trunk" and len(task.weights)):
        return None
    found = functools.partial(_IN_ONE[loss], **options)
    if not set(options) <= inspect.signature(_IN_ONE[loss]).parameters.keys():
        return None
    try:
        coefficients(task.combine, task.weights, task.n_primary, strength=task.strength)
    except UserError:  # a way to combine that is not linear has no weight for each gene
        return None
    return found


def losses_in_one(
    task: Task, loss: Callable[..., Tensor], hidden: Tensor, batch: Batch, draws: dict[str, torch.Generator]
) -> Losses:
    """The objective from the hidden features; genes without a weight cost their value alone."""
    with torch.no_grad():
        weights = coefficients(task.combine, task.weights, task.n_primary, strength=task.strength)
    takes = inspect.signature(loss).parameters
    draws = {name: generator for name, generator in draws.items() if name in takes}
    states = {name: generator.get_state() for name, generator in draws.items()}

    def weighted(hidden: Tensor, by: Tensor) -> Tensor:
        for name, state in states.items():
            draws[name].set_state(state)  # the same pairs for all genes
        head = task.model.head
        return loss(
            hidden, head.weight, head.bias, batch.counts, slides=batch.slides, library_size=batch.library_size,
            gene_weights=by, **draws,
        )  # fmt: skip

    # A head for genes that nothing descends has gradient 0, not none.
    found = weighted(hidden, weights)
    left = weights == 0
    per_gene = found.detach() / torch.where(left, 1.0, weights)
    if bool(left.any()):
        with torch.no_grad():
            per_gene = per_gene + weighted(hidden.detach(), left.to(weights.dtype))
    return Losses(found.sum(), per_gene)


def _is_plain(head: nn.Module) -> bool:
    return type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks
