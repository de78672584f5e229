"""What the losses of a linear head are given, checked, and how their losses are found from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from strank.groups import check_inputs
from strank.losses.analytic import Kernel
from strank.losses.head import Head
from strank.losses.tiles import Sparse, read_counts

NO_COUNTS = torch.empty(0, 0)  # of a kernel that is given them tile by tile


class Given(NamedTuple):
    """What all of these losses are given, checked."""

    features: Tensor
    weight: Tensor
    bias: Tensor | None
    counts: Tensor | Sparse
    gene_weights: Tensor | None

    @classmethod
    def of(
        cls,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        counts: Any,
        slides: Tensor | None,
        library_size: Tensor | None,
        gene_weights: Tensor | None,
    ) -> Given:
        """ValueError or TypeError where something does not fit."""
        for name, value in (("features", features), ("weight", weight), ("bias", bias)):
            if not isinstance(value, Tensor) and not (name == "bias" and value is None):
                kind = type(value).__name__
                raise TypeError(f"Expected {name} as a torch tensor, received {kind}; use torch.as_tensor.")
        if features.ndim != 2 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
            raise ValueError(
                "Expected features [spot, feature] and weight [gene, feature], received "
                f"{tuple(features.shape)} and {tuple(weight.shape)}; give the head's weight as nn.Linear has it."
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"Expected bias of shape [gene] = ({len(weight)},), received {tuple(bias.shape)}.")
        table = read_counts(counts)
        like = features.new_empty(1).expand(len(features), len(weight))
        check_inputs(like, table if isinstance(table, Tensor) else table.values.new_empty(1).expand(table.shape))
        check_inputs(like, like, slides, library_size)
        if weight.dtype != features.dtype and not torch.is_autocast_enabled(features.device.type):
            raise TypeError(f"Expected features and weight of one dtype, received {features.dtype} and {weight.dtype}.")
        return cls(features, weight, bias, table, _gene_weights(gene_weights, len(weight)))

    def losses(self, kernel: Kernel) -> Tensor:
        """`[gene]`, of a kernel that is given the counts of some genes at a time."""
        device = self.features.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.features.dtype
        return Head(kernel, self.counts, self.gene_weights, dtype)(self.features, self.weight, self.bias)


def _gene_weights(given: Tensor | None, n_genes: int) -> Tensor | None:
    if given is None:
        return None
    if not isinstance(given, Tensor) or given.shape != (n_genes,):
        found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"Expected gene_weights as a tensor [gene] = ({n_genes},), received {found}.")
    if not bool((given >= 0).all()):
        raise ValueError("Expected gene_weights of 0 or more, received a negative one or NaN.")
    return given.detach()
