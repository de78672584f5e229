"""A step's gradients, task by task, and what a merge makes of the trunk's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agl import registry
from agl.bilevel.objective import coefficients
from agl.config import Component
from agl.errors import UserError
from agl.training.parallel import Ranks
from agl.training.task import Task

Merge = Callable[..., Tensor]


def merge_of(component: Component) -> Merge | None:
    """The merge that a config names; None for `sum`, which one backward pass does by itself."""
    if component.name == "sum":
        return None
    if isinstance(registry.find("merge", component.name), type):
        merge: Merge = registry.build("merge", component)
        return merge
    return registry.bind("merge", component)


def state_of(merge: Any) -> dict[str, Any]:
    """What a merge must remember across an interruption."""
    found: dict[str, Any] = merge.state_dict() if hasattr(merge, "state_dict") else {}
    return found


def take_back(merge: Any, state: dict[str, Any] | None) -> None:
    """Give it back."""
    if state and hasattr(merge, "load_state_dict"):
        merge.load_state_dict(state)


def check_merged(task: Task) -> None:
    """Refuse a merge where there is nothing for it to do, before any time is spent on it."""
    if task.merge is None:
        return
    trunk = getattr(task.model, "trunk", None)
    if not isinstance(trunk, nn.Module) or not any(p.requires_grad for p in trunk.parameters()):
        raise UserError(
            "Expected a model with a trainable trunk that genes share for auxiliary.merge, received one without. Use "
            "model=mlp or an image encoder, or auxiliary.merge=sum."
        )
    coefficients(task.combine, task.weights, task.n_primary, strength=task.strength)


def backward(task: Task, primary: Tensor, auxiliary: Tensor, ranks: Ranks, scale: float = 1.0) -> None:
    """Fill every `.grad`: the heads' by their own losses, the trunk's by the merge of the tasks'.

    Args:
        primary, auxiliary: losses per gene, with their graph.
        ranks: whose gradients are added up.
        scale: factor of the loss, for half precision; the merge does not see it.
    """
    assert task.merge is not None
    with torch.no_grad():
        weights = torch.ones_like(task.weights) if task.gate == "trunk" else task.weights
        counts = coefficients(task.combine, weights, task.n_primary, strength=task.strength)
    groups = min(getattr(task.merge, "groups", 1), len(auxiliary))
    cuts = [primary, *auxiliary.tensor_split(groups)]
    parts = torch.stack([c @ losses for c, losses in zip(counts.split([len(cut) for cut in cuts]), cuts, strict=True)])
    trunk = [parameter for parameter in task.model.trunk.parameters() if parameter.requires_grad]
    others = [p for p in task.model.parameters() if p.requires_grad and all(p is not q for q in trunk)]
    rows = []
    for number, part in enumerate(parts):
        (scale * part).backward(retain_graph=number + 1 < len(parts))
        ranks.sum_gradients(trunk)
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in trunk]
        rows.append(torch.cat([each.flatten() for each in flat]))
        for parameter in trunk:
            parameter.grad = None
    ranks.sum_gradients(others)
    sizes = [parameter.numel() for parameter in trunk]
    merged = registry.taking(task.merge, "losses", "sizes")(
        torch.stack(rows) / scale, losses=parts.detach(), sizes=sizes
    )
    if merged.shape != rows[0].shape:
        raise UserError(
            f"Expected one gradient [{len(rows[0])}] from the merge, received shape {list(merged.shape)}. "
            "`agl.testing.check_merge` tests one of your own."
        )
    for parameter, piece in zip(trunk, merged.split(sizes), strict=True):
        parameter.grad = (scale * piece).view_as(parameter).to(parameter.dtype)
