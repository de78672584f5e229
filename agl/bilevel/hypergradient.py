"""What an engine returns, and how derivatives for weights become derivatives for phi."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from agl.bilevel.problem import Parameters, Problem


@dataclass(frozen=True)
class HyperGradient:
    """d outer(theta+) / d phi.

    Args:
        phi: the gradient for every parameter of the selector.
        weights: d outer / d w `[aux]`; None where the engine does not compute it.
        outer_before: the outer loss before the look-ahead.
        outer_after: the outer loss after it.
        zero: why the hypergradient is exactly zero; empty where it is not.
    """

    phi: dict[str, Tensor]
    weights: Tensor | None
    outer_before: float
    outer_after: float
    zero: str = field(default="")

    def to(self, device: torch.device | str) -> HyperGradient:
        """The same on another device."""
        phi = {name: value.to(device) for name, value in self.phi.items()}
        return replace(self, phi=phi, weights=None if self.weights is None else self.weights.to(device))


@dataclass(frozen=True)
class Dependence:
    """Weights and coefficients at phi, with the graph back to phi.

    Args:
        phi: leaves that require grad.
        weights: w `[aux]`.
        in_trunk, in_head: coefficients `[gene]` of every gene's loss.
    """

    phi: dict[str, Tensor]
    weights: Tensor
    in_trunk: Tensor
    in_head: Tensor

    @classmethod
    def at(cls, problem: Problem, dtype: torch.dtype, phi: Parameters | None = None) -> Dependence:
        """Read the selector, in the look-ahead's precision."""
        given = {name: p.detach().to(dtype) for name, p in (phi or problem.phi()).items()}
        leaves = {name: value.requires_grad_() for name, value in given.items()}
        buffers = {name: b.to(dtype) for name, b in problem.selector.named_buffers() if b.is_floating_point()}
        weights = problem.weights({**buffers, **leaves}).to(dtype)
        if not weights.requires_grad:
            weights = weights.detach().requires_grad_()
        return cls(leaves, weights, *problem.coefficients(weights))

    @property
    def n_hyperparameters(self) -> int:
        """Numbers in phi."""
        return sum(value.numel() for value in self.phi.values())

    def tangents(self) -> tuple[Tensor, Tensor]:
        """Derivatives of weights `[tangent, aux]` and in_trunk `[tangent, gene]` for every number of phi, in order."""
        # A pull back is linear in what is pulled; pulling that once more pushes forward.
        pull = torch.zeros_like(self.weights, requires_grad=True)
        onto_phi = _pull(self.weights, list(self.phi.values()), pull)
        weight_tangents = torch.stack(
            [_pull(value, [pull], one.view_as(value))[0] for value in onto_phi for one in _units(value)]
        )
        pull = torch.zeros_like(self.in_trunk, requires_grad=True)
        onto_weights = _pull(self.in_trunk, [self.weights], pull)[0]
        return weight_tangents, torch.stack([_pull(onto_weights, [pull], row)[0] for row in weight_tangents])

    def pulled_back(self, for_coefficients: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """From d outer / d in_trunk `[gene]` to the derivatives for phi and for the weights `[aux]`."""
        onto_weights = _pull(self.in_trunk, [self.weights], for_coefficients)[0].detach()
        if not self.phi:
            return {}, onto_weights
        onto_phi = _pull(self.weights, list(self.phi.values()), onto_weights)
        return {name: value.detach() for name, value in zip(self.phi, onto_phi, strict=True)}, onto_weights

    def shaped(self, numbers: Tensor) -> dict[str, Tensor]:
        """A flat row of numbers, one for each of phi, by name and shape."""
        pieces = numbers.split([value.numel() for value in self.phi.values()])
        return {name: piece.reshape(v.shape) for (name, v), piece in zip(self.phi.items(), pieces, strict=True)}


def _pull(output: Tensor, inputs: list[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    if not output.requires_grad:
        return tuple(torch.zeros_like(value) for value in inputs)
    create = gradient.requires_grad
    return torch.autograd.grad(
        output, inputs, gradient, create_graph=create, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _units(value: Tensor) -> Tensor:
    return torch.eye(value.numel(), dtype=value.dtype, device=value.device)
