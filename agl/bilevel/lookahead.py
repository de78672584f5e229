"""Where a look-ahead starts: the live model's parameters and its optimiser's state, read and never written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agl.bilevel.hypergradient import Dependence
from agl.bilevel.inner import Rule, Slots, rules_for, state_of
from agl.bilevel.problem import NOTHING_SHARED, BatchLike, Problem, trunk_part
from agl.bilevel.scoped import differentiable
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError


@dataclass
class Lookahead:
    """The start of a look-ahead. All tensors may share memory with the live model.

    Args:
        params: every parameter of the model by name.
        rules: the update rule of each parameter that is trained.
        slots: its optimiser state.
        counts: how many steps its optimiser has taken.
        buffers: the trunk's buffers.
        seed: fixes dropout and random losses; step t draws from seed + t.
        forward_over_reverse: whether every operation of the trunk is known or hoped to allow it.
    """

    problem: Problem
    params: dict[str, Tensor]
    rules: dict[str, Rule]
    slots: dict[str, Slots]
    counts: dict[str, int]
    buffers: dict[str, Tensor]
    seed: int
    dtype: torch.dtype
    forward_over_reverse: bool = True

    @property
    def trunk(self) -> dict[str, Tensor]:
        """The trunk's parameters that are trained, named as within the trunk."""
        return {name: value for name, value in trunk_part(self.params).items() if f"trunk.{name}" in self.rules}

    @property
    def fixed(self) -> dict[str, Tensor]:
        """The trunk's other parameters."""
        return {name: value for name, value in trunk_part(self.params).items() if f"trunk.{name}" not in self.rules}

    def hidden(self, trunk: dict[str, Tensor], batch: BatchLike, step: int) -> Tensor:
        """Hidden features in the inner problem's step."""
        return self.problem.hidden({**trunk, **self.fixed}, batch.inputs, self.buffers, seed=self.seed + step)

    def outer_gradient(
        self, trunk: dict[str, Tensor], head: Tensor, batch: BatchLike
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The outer loss and its gradient for the trunk and for the primary genes' head `[primary, hidden (+ 1)]`."""
        leaves = {name: value.detach().requires_grad_() for name, value in trunk.items()}
        head = head.detach().requires_grad_()
        hidden = self.problem.hidden({**leaves, **self.fixed}, batch.inputs, self.buffers, outer=True, seed=self.seed)
        primary = slice(0, self.problem.n_primary)
        loss = self.problem.losses(with_ones(hidden, head) @ head.T, batch, primary, seed=self.seed).mean()
        gradients = torch.autograd.grad(loss, [*leaves.values(), head], materialize_grads=True, allow_unused=True)
        return loss.detach(), dict(zip(leaves, gradients[:-1], strict=True)), gradients[-1]

    def outer_loss(self, batch: BatchLike) -> Tensor:
        """The outer loss before any inner step."""
        with torch.no_grad():
            return self.problem.outer(self.params, self.cast(batch), seed=self.seed)

    def head_weight(self, genes: slice | Tensor) -> Tensor:
        """The live weight of some genes' heads `[gene, hidden]`, not copied where genes is a slice."""
        return self.params["head.weight"][genes]

    def head_bias(self, genes: slice | Tensor) -> Tensor | None:
        """Their bias `[gene]`, if there is one."""
        return self.params["head.bias"][genes] if "head.bias" in self.params else None

    def head_table(self, genes: slice | Tensor, out: Tensor | None = None) -> Tensor:
        """Weight, then bias, of some genes' heads side by side, `[gene, hidden (+ 1 ...)]`, copied; see `with_ones`."""
        return self._side_by_side(self.params["head.weight"], self.params.get("head.bias"), genes, out)

    def head_slots(self, genes: slice | Tensor, out: Tensor | None = None) -> Slots:
        """The optimiser state of some genes' heads, likewise."""
        weights, biases = self.slots["head.weight"], self.slots.get("head.bias", ())
        return tuple(
            self._side_by_side(weight, biases[i] if biases else None, genes, None if out is None else out[i])
            for i, weight in enumerate(weights)
        )

    def cast(self, batch: BatchLike) -> Any:
        """The batch with floating inputs and library sizes in the look-ahead's precision."""
        return _CastSpots(batch, self.dtype)

    @staticmethod
    def _side_by_side(weight: Tensor, bias: Tensor | None, genes: slice | Tensor, out: Tensor | None) -> Tensor:
        rows, width = _rows(weight, genes), weight.shape[1]
        if out is None:
            out = rows.new_empty(len(rows), width if bias is None else _aligned(width + 1))
        out[:, :width] = rows
        if bias is not None:
            out[:, width] = _rows(bias, genes)
            out[:, width + 1 :] = 0
        return out


class _CastSpots:
    """A view of a batch in another precision; counts stay as they are."""

    def __init__(self, batch: BatchLike, dtype: torch.dtype) -> None:
        self.inputs = batch.inputs.to(dtype) if batch.inputs.is_floating_point() else batch.inputs
        self.counts = batch.counts
        library = batch.library_size
        self.library_size = library.to(dtype) if library is not None and library.is_floating_point() else library
        self.slides = batch.slides


@contextmanager
def looking_ahead(
    problem: Problem, inner_batches: Sequence[BatchLike], settings: InnerSettings
) -> Iterator[tuple[Lookahead, Dependence]]:
    """What every engine begins with: where training stands, and how the coefficients depend on phi there.

    In full precision, with attention kernels that have second derivatives, for as long as the context lasts.

    Raises:
        UserError: see `start`.
    """
    with differentiable(problem.head.weight.device):
        lookahead = start(problem, inner_batches, settings)
        yield lookahead, Dependence.at(problem, lookahead.dtype)


def start(problem: Problem, inner_batches: Sequence[BatchLike], settings: InnerSettings) -> Lookahead:
    """Read where the model and its optimiser stand.

    Raises:
        UserError: nothing trainable is shared, no inner batch, no head to train.
    """
    if not inner_batches:
        raise UserError("Expected at least one inner batch, received none; take one inner step or more.")
    named, optimizer = dict(problem.model.named_parameters()), settings.optimizer
    found = rules_for(named.values(), optimizer, settings.inner_optimizer, settings.inner_lr)
    rules = {name: rule for name, rule in zip(named, found, strict=True) if rule is not None}
    if not any(name.startswith("trunk.") for name in rules):
        raise UserError(NOTHING_SHARED)
    if any(name.startswith("head.") and name not in rules for name in named):
        raise UserError(
            "Expected an optimiser that trains the heads, received one without them; "
            "pass every parameter of the model to it and leave requires_grad on."
        )
    dtype = settings.precision or problem.head.weight.dtype
    if settings.precision is None and dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32

    def read(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    states = {name: state_of(rule, named[name], optimizer, settings.warm) for name, rule in rules.items()}
    return Lookahead(
        problem=problem,
        params={name: read(parameter) for name, parameter in named.items()},
        rules=rules,
        slots={name: tuple(read(slot) for slot in slots) for name, (slots, _) in states.items()},
        counts={name: count for name, (_, count) in states.items()},
        buffers={name: read(buffer) for name, buffer in problem.trunk.named_buffers()},
        seed=settings.seed,
        dtype=dtype,
    )


def with_ones(hidden: Tensor, head: Tensor) -> Tensor:
    """Hidden features with the column of ones that multiplies the bias, where the head has one, as wide as the head."""
    spare = head.shape[-1] - hidden.shape[-1]
    if spare == 0:
        return hidden
    ones = hidden.new_ones(len(hidden), 1)
    return torch.cat([hidden, ones, hidden.new_zeros(len(hidden), spare - 1)], 1)


def _aligned(width: int) -> int:
    """Rows of odd length slow matrix products down; a wide head gets a few columns that stay zero."""
    return width if width < 64 else -(-width // 16) * 16


def _rows(table: Tensor, genes: slice | Tensor) -> Tensor:
    return table[genes] if isinstance(genes, slice) else table.index_select(0, genes)
