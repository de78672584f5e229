"""The trunk's gradient and its derivative along given directions.

The trunk knows nothing of the genes: it hands its hidden features (and their tangents) to a function, which answers
with the gradient for the hidden features (and its tangents), and it turns that into gradients for its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.overrides import TorchFunctionMode

from agl.bilevel.lookahead import Lookahead
from agl.bilevel.problem import BatchLike

Named = dict[str, Tensor]
# hidden [spot, hidden], its tangents [tangent, spot, hidden] or None -> the same two for the gradient
Heads = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


def gradient(
    lookahead: Lookahead, trunk: Named, batch: BatchLike, step: int, heads: Callable[[Tensor], Tensor]
) -> Named:
    """The trunk's gradient where `heads` gives the gradient for the hidden features."""
    leaves = _leaves(trunk)
    hidden = lookahead.hidden(leaves, batch, step)
    return _pull(hidden, leaves, heads(hidden.detach()))


def gradient_from_rest(
    lookahead: Lookahead, trunk: Named, batch: BatchLike, step: int, heads: Heads
) -> tuple[Named, list[Named]]:
    """The trunk's gradient and its tangents where its parameters have none: only the heads' weights move."""
    leaves = _leaves(trunk)
    hidden = lookahead.hidden(leaves, batch, step)
    pulled, pulled_tangents = heads(hidden.detach(), None)
    moved = [_pull(hidden, leaves, tangent, keep=True) for tangent in pulled_tangents]
    return _pull(hidden, leaves, pulled), moved


def gradient_along(
    lookahead: Lookahead, trunk: Named, directions: Sequence[Named], batch: BatchLike, step: int, heads: Heads
) -> tuple[Named, list[Named]]:
    """The trunk's gradient and its tangents along each direction of its parameters.

    Forward over reverse where every operation of the trunk allows it, else reverse over reverse, at about the same
    cost for one direction and with the graph of a step's gradient in memory. `heads` is called once.
    """
    heads = _once(heads)
    if lookahead.forward_over_reverse:
        try:
            return _forward_over_reverse(lookahead, trunk, directions, batch, step, heads)
        except NotImplementedError:  # an operation without a forward derivative, such as that of SiLU's gradient
            lookahead.forward_over_reverse = False
    return _reverse_over_reverse(lookahead, trunk, directions, batch, step, heads)


def hidden_along(
    lookahead: Lookahead, trunk: Named, direction: Named, batch: BatchLike, step: int
) -> tuple[Tensor, Tensor]:
    """Hidden features and their tangent along a direction of the trunk's parameters."""
    try:
        with torch.no_grad(), fwAD.dual_level():
            duals = {name: fwAD.make_dual(value.detach(), direction[name]) for name, value in trunk.items()}
            hidden, tangent = fwAD.unpack_dual(lookahead.hidden(duals, batch, step))
            return hidden, torch.zeros_like(hidden) if tangent is None else tangent
    except NotImplementedError:  # as above: an operation without a forward derivative
        leaves = _leaves(trunk)
        hidden = lookahead.hidden(leaves, batch, step)
        return hidden.detach(), _pushed(hidden, leaves, [direction])[0]


def _forward_over_reverse(
    lookahead: Lookahead, trunk: Named, directions: Sequence[Named], batch: BatchLike, step: int, heads: Heads
) -> tuple[Named, list[Named]]:
    """One direction costs one pass of twice the size of a plain one. Several share the heads' work; each takes a pass
    of its own to move the hidden features and one to move the gradient, so that memory does not grow with their number.
    """
    if len(directions) == 1:

        def one(hidden: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
            pulled, pulled_tangents = heads(hidden, tangent[None])
            return pulled, pulled_tangents[0]

        values, tangents = _dual_pass(lookahead, trunk, directions[0], batch, step, one)
        return values, [tangents]
    moved = [hidden_along(lookahead, trunk, direction, batch, step) for direction in directions]
    pulled, pulled_tangents = heads(moved[0][0], torch.stack([tangent for _, tangent in moved]))
    passes = [
        _dual_pass(lookahead, trunk, direction, batch, step, lambda *_, tangent=tangent: (pulled, tangent))
        for direction, tangent in zip(directions, pulled_tangents, strict=True)
    ]
    return passes[0][0], [tangents for _, tangents in passes]


def _dual_pass(
    lookahead: Lookahead,
    trunk: Named,
    direction: Named,
    batch: BatchLike,
    step: int,
    heads: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Named, Named]:
    leaves = _leaves(trunk)
    with fwAD.dual_level():
        duals = {name: fwAD.make_dual(leaf, direction[name]) for name, leaf in leaves.items()}
        with _TangentsWithoutGraph():
            hidden = lookahead.hidden(duals, batch, step)
        value, tangent = fwAD.unpack_dual(hidden)
        tangent = torch.zeros_like(value) if tangent is None else tangent
        pulled, pulled_tangent = heads(value.detach(), tangent.detach())
        gradients = _pull(hidden, leaves, fwAD.make_dual(pulled.contiguous(), pulled_tangent.contiguous()))
        pairs = {name: fwAD.unpack_dual(gradient) for name, gradient in gradients.items()}
    values = {name: pair.primal.detach() for name, pair in pairs.items()}
    tangents = {
        name: torch.zeros_like(pair.primal) if pair.tangent is None else pair.tangent.detach()
        for name, pair in pairs.items()
    }
    return values, tangents


class _TangentsWithoutGraph(TorchFunctionMode):
    """Tangents are made of tensors that require grad, so that autograd would record them too and keep all they need."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.requires_grad:
            with DisableTorchFunction():
                tangent = fwAD.unpack_dual(result).tangent
                if tangent is not None and tangent.requires_grad and not tangent._is_view():
                    tangent.detach_()
        return result


def _reverse_over_reverse(
    lookahead: Lookahead, trunk: Named, directions: Sequence[Named], batch: BatchLike, step: int, heads: Heads
) -> tuple[Named, list[Named]]:
    leaves = _leaves(trunk)
    hidden = lookahead.hidden(leaves, batch, step)
    pulled, pulled_tangents = heads(hidden.detach(), torch.stack(_pushed(hidden, leaves, directions)))
    gradients = _pull(hidden, leaves, pulled, create=True)
    # d<gradient, direction> for the parameters, as second derivatives are symmetric, and what the heads' change adds.
    bent = [name for name, gradient in gradients.items() if gradient.requires_grad]
    tangents = [
        torch.autograd.grad(
            [hidden, *(gradients[name] for name in bent)],
            list(leaves.values()),
            [tangent, *(direction[name] for name in bent)],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for direction, tangent in zip(directions, pulled_tangents, strict=True)
    ]
    values = {name: gradient.detach() for name, gradient in gradients.items()}
    return values, [dict(zip(leaves, each, strict=True)) for each in tangents]


def _pushed(hidden: Tensor, leaves: Named, directions: Sequence[Named]) -> list[Tensor]:
    """Tangents of the hidden features: pulling back is linear in what is pulled, and pulling that once more pushes."""
    pull = torch.zeros_like(hidden, requires_grad=True)
    gradients = _pull(hidden, leaves, pull, create=True)
    moved = [name for name, gradient in gradients.items() if gradient.requires_grad]
    return [
        torch.autograd.grad(
            [gradients[name] for name in moved], pull, [direction[name] for name in moved], retain_graph=True
        )[0]
        for direction in directions
    ]


def _once(heads: Heads) -> Heads:
    """Heads move when they are called: a second call gives the first one's answer."""
    answers: list[tuple[Tensor, Tensor]] = []

    def answer(hidden: Tensor, tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        if not answers:
            answers.append(heads(hidden, tangents))
        return answers[0]

    return answer


def _leaves(trunk: Named) -> Named:
    return {name: value.detach().requires_grad_() for name, value in trunk.items()}


def _pull(hidden: Tensor, leaves: Named, pulled: Tensor, *, keep: bool = False, create: bool = False) -> Named:
    gradients = torch.autograd.grad(
        hidden,
        list(leaves.values()),
        pulled,
        retain_graph=keep or create,
        create_graph=create,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, gradients, strict=True))
