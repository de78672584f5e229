"""Batch norm whose moments are those of the whole batch, however its spots are dealt out to processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agl.training import parallel


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """As the layer it stands for, with moments over all processes' shares while several train one model.

    Every process gives its number of spots, mean and sum of squared deviations; they are put together as Chan et al.
    (1979) do, which loses no precision where the mean is large. torch's `SyncBatchNorm` runs on GPUs only, and cannot
    be told that a look-ahead is one process's own.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        ranks = parallel.current()
        if ranks.size == 1 or not self.training:
            return super().forward(inputs)
        n, mean, squares = _moments(inputs.to(torch.promote_types(inputs.dtype, torch.float32)), ranks)
        self._remember(n, mean, squares / n)
        shape = (1, -1, *([1] * (inputs.ndim - 2)))
        scale = (squares / n + self.eps).rsqrt()
        scale, shift = (scale, -mean * scale) if self.weight is None else self._affine(scale, mean)
        return (inputs * scale.view(shape) + shift.view(shape)).to(inputs.dtype)

    def _affine(self, scale: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        scale = scale * self.weight
        return scale, self.bias - mean * scale

    @torch.no_grad()
    def _remember(self, n: Tensor, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * n / (n - 1).clamp_min(1), share)

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Whatever the layer it stands for takes."""


def share_batch_norm(model: nn.Module) -> None:
    """Let every batch norm in the model see all processes' spots, in place; names and values stay."""
    for parent in model.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, SharedBatchNorm):
                setattr(parent, name, _standing_for(layer))


def _standing_for(layer: Any) -> SharedBatchNorm:
    shared = SharedBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    ).train(layer.training)
    if layer.affine:
        shared.weight, shared.bias = layer.weight, layer.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(shared, name, getattr(layer, name))
    return shared


def _moments(inputs: Tensor, ranks: parallel.Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values, their mean and sum of squared deviations, per channel, of all processes together."""
    values = inputs.transpose(0, 1).flatten(1)  # [channel, spot x place]
    n = values.shape[1]
    mean = values.sum(1) / max(n, 1)
    squares = (values - mean[:, None]).square().sum(1)
    own = torch.cat([mean.new_full((1,), float(n)), mean, squares])
    slots = F.pad(own[None], (0, 0, ranks.rank, ranks.size - 1 - ranks.rank))
    table = parallel.total(slots)  # [process, 1 + 2 channel]
    counts, (means, parts) = table[:, :1], table[:, 1:].chunk(2, dim=1)
    whole = counts.sum()
    mean = (counts * means).sum(0) / whole
    return whole.detach(), mean, (parts + counts * (means - mean).square()).sum(0)
