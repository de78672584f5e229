"""Losses whose gradient is known: value and gradient in one pass over cache-sized blocks, nothing else stored.

A *kernel* knows one loss of one batch. `run` is the fast way, without autograd. `value` is the same loss in plain
differentiable operations; it serves whenever somebody differentiates twice or forward, as hypergradients do.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.forward_ad import unpack_dual

BLOCK = 1 << 20  # elements of a block: a few of them stay in the cache
_GPU_BLOCK = 1 << 25  # there what costs is starting a kernel
_NOTHING = torch.empty(0)


class Outcome(NamedTuple):
    """Per-gene values; the gradient is `gradient * scale`, `scale` a `[gene]` row or one number."""

    value: Tensor
    scale: Tensor | float
    gradient: Tensor | None
    parameter_gradient: Tensor | None = None


class Kernel(ABC):
    """One loss of one batch, as a function of the scores and perhaps of one parameter per gene."""

    counts: Tensor
    ignores_shifts = False  # the same number added to all scores of a gene changes nothing: a bias has gradient 0

    @abstractmethod
    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        """Value `[gene]`, and the gradient if asked for; called without autograd."""

    @abstractmethod
    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        """Value `[gene]` in differentiable operations."""

    def run_over(self, scores: Tensor) -> Outcome:
        """As `run` with the gradient, for scores that nobody needs any more: it may be written over them."""
        return self.run(scores, None, gradient=True)

    def with_counts(self, counts: Tensor) -> Self:
        """The same loss of other genes of the same spots."""
        other = copy.copy(self)
        other.counts = counts
        return other


class Scratch:
    """Named buffers that are used again for every block: fresh memory costs more than the arithmetic done in it."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.nothing = torch.empty(0, dtype=dtype, device=device)
        self.buffers: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; its content lasts until the name is asked for again."""
        needed = math.prod(shape)
        if name not in self.buffers or self.buffers[name].numel() < needed:
            self.buffers[name] = self.nothing.new_empty(needed)
        return self.buffers[name][:needed].view(shape)

    def gather(self, table: Tensor, rows: Tensor, out: Tensor) -> Tensor:
        """Rows of a table of any dtype, in this scratch's."""
        if table.dtype == out.dtype:
            return torch.index_select(table, 0, rows, out=out)
        return out.copy_(table.index_select(0, rows))


def block_for(device: torch.device) -> int:
    """Elements of a block on this device."""
    return BLOCK if device.type == "cpu" else _GPU_BLOCK


def columns(n_rows: int, n_genes: int, block: int = BLOCK) -> Iterator[slice]:
    """Slices of genes such that a block of `n_rows` rows stays in the cache."""
    width = max(64, block // max(1, n_rows))
    for start in range(0, n_genes, width):
        yield slice(start, min(start + width, n_genes))


def evaluate(kernel: Kernel, scores: Tensor, parameter: Tensor | None = None) -> Tensor:
    """The loss `[gene]` of a kernel, differentiable to any order, in reverse and forward mode."""
    if any(is_transformed(tensor) for tensor in (scores, parameter, kernel.counts)):
        return kernel.value(scores, parameter)
    wanted = torch.is_grad_enabled() and (scores.requires_grad or (parameter is not None and parameter.requires_grad))
    if not wanted:
        return kernel.run(scores, parameter, gradient=False).value
    result: Tensor = _Analytic.apply(kernel, scores, parameter)
    return result


class _Analytic(torch.autograd.Function):
    """Keeps the gradient of the forward pass, hands it out once, and steps aside when it must be differentiable."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, scores: Tensor, parameter: Tensor | None) -> Tensor:
        found = kernel.run(scores, parameter, gradient=True)  # in float32 at least: half scores wait for the scaled one
        # The value becomes this node's output: kept here as well it would close a cycle that only the collector frees.
        ctx.kernel, ctx.ready = kernel, found._replace(value=_NOTHING)
        ctx.save_for_backward(scores, parameter)
        return found.value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        scores, parameter = ctx.saved_tensors
        if torch.is_grad_enabled() or is_transformed(outer):
            return None, *_differentiable(ctx.kernel, scores, parameter, outer)
        found, ctx.ready = ctx.ready, None
        if found is None:  # a second backward through one forward pass
            found = ctx.kernel.run(scores, parameter, gradient=True)
        try:
            found.gradient.mul_(found.scale * outer)
        except RuntimeError:  # is_grads_batched: `outer` is a hidden batch, which has no room in one gradient
            return None, *_differentiable(ctx.kernel, scores, parameter, outer)
        of_parameter = None if parameter is None else found.parameter_gradient * outer
        return None, found.gradient.to(scores.dtype), of_parameter


def _differentiable(
    kernel: Kernel, scores: Tensor, parameter: Tensor | None, outer: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    with torch.enable_grad():
        inputs = [t if t.requires_grad else t.requires_grad_() for t in (scores, parameter) if t is not None]
        found = torch.autograd.grad(kernel.value(scores, parameter), inputs, outer, create_graph=True)
    return found[0], None if parameter is None else found[1]


def is_transformed(tensor: Tensor | None) -> bool:
    """Whether a tensor lives inside a torch.func transform or carries a forward-mode tangent."""
    if tensor is None:
        return False
    return is_functorch_wrapped_tensor(tensor) or unpack_dual(tensor).tangent is not None
