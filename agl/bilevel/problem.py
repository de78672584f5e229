"""The two levels as pure functions: train the predictor with weights, judge it by the primary genes.

    inner(theta, phi; batch) = sum_g c_g(w(phi)) L_g          outer(theta; batch) = mean of L_g over the primary genes

The weights w come from a selector, c from the way to combine (`objective`), L from any `[spot, gene] -> [gene]` loss
whose value for a gene depends on that gene's scores alone. Engines differentiate outer(theta+) for phi, where theta+ is
theta after some inner steps (arXiv 2511.18336, algorithm 1).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from agl.bilevel import objective
from agl.bilevel.gates import gate_of, gated_scores
from agl.bilevel.scoped import modes, torch_seeded
from agl.errors import UserError

Genes = slice | Tensor
Parameters = Mapping[str, Tensor]

NOTHING_SHARED = (
    "Expected a trainable trunk that primary and auxiliary genes share, received a model without one: every gene then "
    "trains its own head, auxiliary genes cannot change the primary ones and the hypergradient is exactly zero; "
    "use a model with a shared trainable trunk (model=mlp or an image encoder), or a fixed gene set."
)


class BatchLike(Protocol):
    """What a batch offers: tensors inputs, counts `[spot, gene]`, library_size `[spot]`, slides `[spot]`."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def counts(self) -> Tensor: ...
    @property
    def library_size(self) -> Tensor: ...
    @property
    def slides(self) -> Tensor: ...


@dataclass(frozen=True)
class Problem:
    """A predictor, a loss per gene, and a selector of auxiliary genes.

    Args:
        model: has `.trunk` (inputs -> hidden) and `.head` (nn.Linear, hidden -> gene; primary genes first), and may
            have fixed scores `.start(inputs, genes)` that these add to.
        gene_loss: `(scores, counts, *, slides, library_size) -> [gene]`. Its own parameters are held fixed.
        selector: calling it gives the weights `[aux]`; its parameters are phi.
        n_primary: how many of the panel's first genes are primary.
        combine: see `agl.bilevel.objective`.
        strength: share of the auxiliary genes in `combine`.
        gate: where the weights act: on the whole "loss", or only on the gradient into the "trunk", while every head
            learns at full weight from detached hidden features.
        inner_scale: factor of the whole inner loss. An optimiser that divides by the gradient's size hardly sees it but
            where gradients are near its eps, and that is where a fresh Adam's derivative lives.
        statistics: of batch normalisation. "training": the batch's in the inner problem, the running ones in the outer
            (as in training and evaluation); "batch": the batch's in both; "frozen": the running ones in both.
    """

    model: nn.Module
    gene_loss: Callable[..., Tensor]
    selector: nn.Module
    n_primary: int
    combine: objective.Combine = objective.balanced
    strength: float = 1.0
    gate: Literal["loss", "trunk"] = "loss"
    inner_scale: float = 1.0
    statistics: Literal["training", "batch", "frozen"] = "training"

    def __post_init__(self) -> None:
        head = getattr(self.model, "head", None)
        if not isinstance(head, nn.Linear) or not isinstance(getattr(self.model, "trunk", None), nn.Module):
            raise UserError(
                "Expected a model with .trunk and a linear .head, received one without; use agl.models.Predictor."
            )
        if not 0 < self.n_primary <= head.out_features:
            raise UserError(
                f"Expected between 1 and {head.out_features} primary genes, as the model has that many heads, "
                f"received {self.n_primary}."
            )
        for name, value, known in (
            ("gate", self.gate, ("loss", "trunk")),
            ("statistics", self.statistics, ("training", "batch", "frozen")),
        ):
            if value not in known:
                raise UserError(f"Expected {name} to be one of {', '.join(known)}, received {value!r}.")

    @property
    def trunk(self) -> nn.Module:
        """What all genes share."""
        return cast(nn.Module, self.model.trunk)

    @property
    def head(self) -> nn.Linear:
        """What every gene has for itself."""
        return cast(nn.Linear, self.model.head)

    @property
    def n_genes(self) -> int:
        """Genes of the panel."""
        return self.head.out_features

    @property
    def n_auxiliary(self) -> int:
        """Auxiliary genes of the panel."""
        return self.n_genes - self.n_primary

    def phi(self) -> dict[str, Tensor]:
        """The selector's trainable parameters, detached."""
        return {name: p.detach() for name, p in self.selector.named_parameters() if p.requires_grad}

    def weights(self, phi: Parameters | None = None) -> Tensor:
        """Weights `[aux]` of the auxiliary genes, a pure and differentiable function of phi."""
        weights = functional_call(self.selector, dict(phi or {}), ())
        if weights.shape != (self.n_auxiliary,):
            raise UserError(
                f"Expected {self.n_auxiliary} weights from the selector, one per auxiliary gene, "
                f"received shape {tuple(weights.shape)}; build it for this panel."
            )
        return weights

    def coefficients(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What every gene's loss counts `[gene]` in the trunk's gradient, and in its own head's gradient."""
        in_trunk = self._scaled(weights)
        return in_trunk, in_trunk if self.gate == "loss" else self._scaled(torch.ones_like(weights.detach()))

    def _scaled(self, weights: Tensor) -> Tensor:
        found = objective.coefficients(self.combine, weights, self.n_primary, strength=self.strength)
        return found if self.inner_scale == 1 else self.inner_scale * found

    def losses(self, scores: Tensor, batch: BatchLike, genes: Genes = slice(None), *, seed: int = 0) -> Tensor:
        """Losses `[gene]` of some genes' scores `[spot, gene]`; `seed` fixes a random loss's draws.

        `scores` are the head's. A start's are added here: to whoever differentiates they are part of the loss.
        """
        start = getattr(self.model, "start", None)
        if start is not None:
            scores = scores + start(batch.inputs, genes).to(scores.dtype)
        options: dict[str, object] = {"slides": batch.slides, "library_size": batch.library_size}
        if _draws(self.gene_loss):
            options["generator"] = torch.Generator(scores.device).manual_seed(seed)
        with torch_seeded(seed, scores.device):
            counts = batch.counts[:, genes] if isinstance(genes, slice) else batch.counts.index_select(1, genes)
            return self._loss_of(genes)(scores, counts, **options)

    def _loss_of(self, genes: Genes) -> Callable[..., Tensor]:
        """The loss for some of the panel's genes: a module's values per gene are cut to them."""
        module = self.gene_loss
        if not isinstance(module, nn.Module):
            return module
        own = [*module.named_parameters(), *module.named_buffers()]
        rows = {name: t.detach()[..., genes] for name, t in own if t.dim() and t.shape[-1] == self.n_genes}
        return lambda *args, **options: functional_call(module, rows, args, options)

    def hidden(
        self, trunk: Parameters, inputs: Tensor, buffers: Parameters, *, outer: bool = False, seed: int = 0
    ) -> Tensor:
        """Hidden features `[spot, hidden]`, a pure function of the trunk's parameters (named as within the trunk).

        Dropout acts in the inner problem only and draws from `seed`. Buffers are read, never written.
        """
        running = self.statistics == "frozen" or (outer and self.statistics == "training")
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        with torch_seeded(seed, inputs.device), modes(self.trunk, evaluating=outer, running_statistics=running):
            return functional_call(self.trunk, {**trunk, **copies}, (inputs,))

    def inner(self, params: Parameters, phi: Parameters, batch: BatchLike, *, seed: int = 0) -> Tensor:
        """The loss the predictor is trained with; params are named as in the model.

        Gated in the trunk its value does not depend on phi, but its gradient for the trunk does; that gradient is for
        following, not for differentiating again.
        """
        return self.weighted_loss(params, self.coefficients(self.weights(phi)), batch, seed=seed)

    def weighted_loss(
        self, params: Parameters, coefficients: tuple[Tensor, Tensor], batch: BatchLike, *, seed: int = 0
    ) -> Tensor:
        """`inner` with the coefficients given."""
        in_trunk, in_head = coefficients
        weight, bias = params["head.weight"], params.get("head.bias")
        hidden = self.hidden(trunk_part(params), batch.inputs, self._buffers(weight.dtype), seed=seed)
        if self.gate == "loss":
            return in_trunk @ self.losses(nn.functional.linear(hidden, weight, bias), batch, seed=seed)
        scores = gated_scores(hidden, weight, bias, gate_of(in_trunk, in_head))
        return in_head @ self.losses(scores, batch, seed=seed)

    def outer(self, params: Parameters, batch: BatchLike, *, seed: int = 0) -> Tensor:
        """Mean loss of the primary genes on held-out spots, without dropout."""
        weight, bias = params["head.weight"], params.get("head.bias")
        hidden = self.hidden(trunk_part(params), batch.inputs, self._buffers(weight.dtype), outer=True, seed=seed)
        primary = slice(0, self.n_primary)
        scores = nn.functional.linear(hidden, weight[primary], None if bias is None else bias[primary])
        return self.losses(scores, batch, primary, seed=seed).mean()

    def _buffers(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: b.to(dtype) if b.is_floating_point() else b for name, b in self.trunk.named_buffers()}


def trunk_part(params: Parameters) -> dict[str, Tensor]:
    """The trunk's parameters, named as within the trunk.

    >>> sorted(trunk_part({"trunk.0.weight": torch.ones(1), "head.weight": torch.ones(1)}))
    ['0.weight']
    """
    return {name.removeprefix("trunk."): value for name, value in params.items() if name.startswith("trunk.")}


def _draws(gene_loss: Callable[..., Tensor]) -> bool:
    function = gene_loss.forward if isinstance(gene_loss, nn.Module) else gene_loss
    return "generator" in inspect.signature(function).parameters
