"""A linear head and its loss in one: scores of some genes at a time, never a whole table `[spot, gene]`.

Genes are independent, so a tile of all spots and some genes has everything that a loss asks for. Its scores are made,
turned into their gradient, and that is taken into the gradients of features, weight and bias before the next tile
overwrites it. Three matrix products in all, as for head and loss apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from strank.losses.analytic import Kernel, Scratch, columns, is_transformed
from strank.losses.inputs import wide
from strank.losses.tiles import Genes, Sparse, tiles

BLOCK = {"cpu": 3 << 18, "cuda": 1 << 26}  # of a tile; on a GPU starting a kernel costs most


class Head(NamedTuple):
    """A loss of linear scores, and which genes are worth it.

    The gradient is known when the value is, provided that the sum of the losses is descended. Where each gene's loss
    is multiplied by something else afterwards, the gradient of the features has to be found anew.
    """

    kernel: Kernel  # is given the counts of some genes at a time
    counts: Tensor | Sparse
    gene_weights: Tensor | None  # [gene]; None: all 1
    dtype: torch.dtype  # of the matrix products, as autocast or the features have it

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The losses times their weights, `[gene]`."""
        inputs = (features, weight, bias)
        with torch.autocast(features.device.type, enabled=False):
            if any(is_transformed(tensor) for tensor in inputs):
                return self.value(*inputs)
            if not torch.is_grad_enabled() or not any(t is not None and t.requires_grad for t in inputs):
                return self.run(*inputs, None, (False, False, False)).value
            result: Tensor = _Fused.apply(self, *inputs)
            return result

    def parts(self, n_spots: int, n_genes: int, device: torch.device) -> list[Genes]:
        """The genes of each tile; those of weight 0 are in none."""
        block = BLOCK.get(device.type, BLOCK["cuda"])
        if self.gene_weights is None or bool(self.gene_weights.all()):
            return list(columns(n_spots, n_genes, block))
        live = self.gene_weights.nonzero().squeeze(1)
        return [_narrowest(live[some]) for some in columns(n_spots, len(live), block)]

    def run(
        self, features: Tensor, weight: Tensor, bias: Tensor | None, outer: Tensor | None, wanted: Sequence[bool]
    ) -> HeadGradients:
        """Values, and the gradients that are wanted, for the losses times `outer` `[gene]` (None: 1)."""
        dtype, h = wide(features.dtype), features.to(self.dtype)
        parts = self.parts(len(features), len(weight), features.device)
        every_gene = bool(parts) and all(isinstance(part, slice) for part in parts) and _length(parts) == len(weight)
        found = _room(features, weight, bias, wanted, filled=not every_gene)
        if self.kernel.ignores_shifts and found.bias is not None:
            found.bias.zero_()
        scratch = Scratch(self.dtype, features.device)
        for genes, counts in zip(parts, tiles(self.counts, parts, dtype), strict=True):
            w, b = weight[genes].to(self.dtype), None if bias is None else bias[genes].to(self.dtype)
            kernel, scores = self.kernel.with_counts(counts), _scores(h, w, b, scratch)
            loss = kernel.run_over(scores) if any(wanted) else kernel.run(scores, None, gradient=False)
            factor = None if self.gene_weights is None else self.gene_weights[genes].to(dtype)
            found.value[genes] = loss.value if factor is None else loss.value * factor
            if loss.gradient is not None:
                scale = _product(loss.scale, factor, None if outer is None else outer[genes])
                found.add(genes, loss.gradient, scale, h, w, bias=not self.kernel.ignores_shifts)
            del loss  # or two tiles' gradients would lie side by side
        return found

    def value(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same in differentiable operations, which do store tables `[spot, gene]`."""
        dtype = wide(features.dtype)
        parts = self.parts(len(features), len(weight), features.device)
        value = (features[:0].sum() + weight[:, :0].sum(1)).to(dtype)
        for genes, counts in zip(parts, tiles(self.counts, parts, dtype), strict=True):
            counts = counts if isinstance(self.counts, Tensor) else counts.clone()  # the next tile overwrites it
            w, b = weight[genes].to(self.dtype), None if bias is None else bias[genes].to(self.dtype)
            loss = self.kernel.with_counts(counts).value(
                torch.nn.functional.linear(features.to(self.dtype), w, b), None
            )
            if self.gene_weights is not None:
                loss = loss * self.gene_weights[genes].to(dtype)
            if isinstance(genes, slice):
                genes = torch.arange(genes.start, genes.stop, device=loss.device)
            value = value.index_add(0, genes, loss)
        return value


class HeadGradients(NamedTuple):
    """Losses and gradients, the latter None where they are not wanted."""

    value: Tensor
    features: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, genes: Genes, slope: Tensor, scale: Tensor | float, h: Tensor, w: Tensor, *, bias: bool) -> None:
        """A tile: `slope` `[spot, gene]` times `scale` (`[gene]` or a number) is the gradient of its scores, which h
        and w made; `bias`: whether it is wanted. The scale is taken into what has no spots, which is small."""
        if bias and self.bias is not None:
            self.bias[genes] = slope.sum(0, dtype=self.bias.dtype).mul_(scale)
        if h.dtype == torch.float16:
            return self._add_scaled(genes, slope, scale, h, w)
        slope, exact = slope.to(h.dtype), h.dtype == self.value.dtype
        column = scale.unsqueeze(1) if isinstance(scale, Tensor) else scale
        if isinstance(scale, Tensor):
            w, scale = (w * column).to(h.dtype), 1.0
        if self.weight is not None and exact and isinstance(genes, slice):
            torch.mm(slope.T, h, out=self.weight[genes]).mul_(column)
        elif self.weight is not None:
            self.weight[genes] = (slope.T @ h) * column
        if self.features is not None and exact:
            self.features.addmm_(slope, w, alpha=scale)
        elif self.features is not None:
            self.features.add_(slope @ w, alpha=scale)
        return None

    def _add_scaled(self, genes: Genes, slope: Tensor, scale: Tensor | float, h: Tensor, w: Tensor) -> None:
        """Products in float16: scaled before, so that no column overflows or vanishes, and back after."""
        top = slope.abs().amax(0).float().clamp(min=torch.finfo(torch.float32).tiny)
        slope, column = (slope / top).to(h.dtype), (scale * top).unsqueeze(1)
        if self.weight is not None:
            self.weight[genes] = (slope.T @ h) * column
        if self.features is not None:
            most = column.abs().max().clamp(min=torch.finfo(column.dtype).tiny)
            self.features.add_((slope @ (w * (column / most)).to(h.dtype)) * most)

    def times(self, factor: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients times a number, in place."""
        return tuple(None if part is None else part.mul_(factor) for part in self[1:])


class _Fused(torch.autograd.Function):
    """Keeps the gradients of the forward pass, for a backward pass that multiplies all losses by one number."""

    @staticmethod
    def forward(ctx: Any, head: Head, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found = head.run(features, weight, bias, None, ctx.needs_input_grad[1:])
        ctx.head, ctx.ready = head, found._replace(value=found.value.detach())
        ctx.save_for_backward(features, weight, bias)
        return found.value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or is_transformed(outer):
            return None, *_differentiable(ctx.head, inputs, wanted, outer)
        ready, ctx.ready = ctx.ready, None
        try:
            same = _is_constant(outer)
        except RuntimeError:  # is_grads_batched: `outer` is a hidden batch, whose numbers nobody may ask for
            return None, *_differentiable(ctx.head, inputs, wanted, outer)
        if same:
            ready = ctx.head.run(*inputs, None, wanted) if ready is None else ready
            gradients = ready.times(outer[:1])
        elif ready is not None and ready.features is None:  # what belongs to one gene needs its own factor only
            factors = (None, outer.unsqueeze(1), outer)
            gradients = tuple(
                None if part is None or factor is None else part.mul_(factor)
                for part, factor in zip(ready[1:], factors, strict=True)
            )
        else:
            gradients = ctx.head.run(*inputs, outer, wanted)[1:]
        return None, *(
            None if part is None else part.to(given.dtype) for part, given in zip(gradients, inputs, strict=True)
        )


def _differentiable(
    head: Head, given: Sequence[Tensor | None], wanted: Sequence[bool], outer: Tensor
) -> list[Tensor | None]:
    with torch.enable_grad():
        inputs = [t for t, is_wanted in zip(given, wanted, strict=True) if is_wanted and t is not None]
        features, weight, bias = given
        assert features is not None
        assert weight is not None
        gradients = iter(torch.autograd.grad(head.value(features, weight, bias), inputs, outer, create_graph=True))
    return [next(gradients) if is_wanted else None for is_wanted in wanted]


def _is_constant(outer: Tensor) -> bool:
    """Whether all losses are multiplied by one number; a sum's or a mean's are, without a look."""
    return len(outer) > 0 and (outer.stride(0) == 0 or bool((outer == outer[:1]).all()))


def _room(
    features: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool], *, filled: bool
) -> HeadGradients:
    """In float32 at least; what belongs to genes is 0 only if `filled`."""
    dtype = wide(features.dtype)
    gradients = [
        make(tensor.shape, dtype=dtype, device=tensor.device) if is_wanted and tensor is not None else None
        for tensor, is_wanted, make in zip(
            (features, weight, bias), wanted, (torch.zeros, *[torch.zeros if filled else torch.empty] * 2), strict=True
        )
    ]
    return HeadGradients(torch.zeros(len(weight), dtype=dtype, device=weight.device), *gradients)


def _product(*factors: Tensor | float | None) -> Tensor | float:
    return math.prod(factor for factor in factors if factor is not None)


def _length(parts: Sequence[Genes]) -> int:
    return sum(part.stop - part.start if isinstance(part, slice) else len(part) for part in parts)


def _scores(features: Tensor, weight: Tensor, bias: Tensor | None, scratch: Scratch) -> Tensor:
    out = scratch.get("scores", len(features), len(weight))
    if bias is None:
        return torch.mm(features, weight.T, out=out)
    return torch.addmm(bias, features, weight.T, out=out)


def _narrowest(genes: Tensor) -> Genes:
    """A slice where positions are neighbours: nothing is copied then."""
    first, last = int(genes[0]), int(genes[-1])
    return slice(first, last + 1) if last - first + 1 == len(genes) else genes
