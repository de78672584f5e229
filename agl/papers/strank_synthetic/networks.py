"""Many small ReLU networks of one number, trained side by side, each step exact and without a matrix product.

Each network's forward and backward pass is one walk along the line (`lines.py`), compiled where there is a compiler
(`native.py`), the same numbers either way up to rounding.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from agl.errors import UserError
from agl.papers.strank_synthetic.lines import Lines
from agl.papers.strank_synthetic.native import CompiledLines, serves
from agl.papers.strank_synthetic.points import Points

# Networks side by side without the compiled version, by hidden layers: their tables fit a cache.
AT_ONCE = {1: 64, 2: 16}


class Networks:
    """R independent networks 1-H-1 or 1-H-K-1 with ReLU units, started as `torch.nn.Linear` starts.

    Args:
        hidden: (H,) or (H, K).
        seeds: one generator a network; its draws are that network's alone.
        dtype, device: of the parameters.

    Raises:
        UserError: other numbers of layers.

    `parameters` are tensors with a leading run dimension, for any optimiser of torch; `backward` writes their `.grad`.

    >>> networks = Networks((16,), [np.random.default_rng(seed) for seed in range(3)])
    >>> networks.forward(Points.of(torch.rand(3, 5))).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        hidden: tuple[int, ...],
        seeds: list[np.random.Generator],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        if len(hidden) not in (1, 2) or min(hidden) < 1:
            raise UserError(f"Expected one or two hidden layers, such as [16] or [128, 128], received {list(hidden)}.")
        self.hidden = hidden
        sizes = (1, *hidden, 1)
        drawn = [[_linear(before, after, rng) for before, after in itertools.pairwise(sizes)] for rng in seeds]

        def stacked(layer: int, part: int) -> Tensor:
            return torch.tensor(np.stack([run[layer][part] for run in drawn]), dtype=dtype, device=device)

        self.w, self.b = stacked(0, 0)[:, 0].contiguous(), stacked(0, 1)  # [run, unit]
        self.W, self.c = stacked(1, 0), stacked(1, 1)  # [run, unit, line], [run, line]
        self.parameters = [self.w, self.b, self.W, self.c]
        if len(hidden) == 2:
            self.v, self.d = stacked(2, 0)[:, :, 0].contiguous(), stacked(2, 1)  # [run, line], [run, 1]
            self.parameters += [self.v, self.d]
        gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        size = AT_ONCE[len(hidden)] if self.w.is_cpu and not serves(self.w) else len(seeds)
        self._parts = [slice(start, start + size) for start in range(0, len(seeds), size)]
        self._walks = [
            self._walk([p[part] for p in self.parameters], [g[part] for g in gradients]) for part in self._parts
        ]

    def forward(self, points: Points) -> Tensor:
        """Scores `[run, spot]`, in the spots' own order; what `backward` needs is kept until the next call."""
        parts = zip(self._parts, self._walks, strict=True)
        scores = [walk.forward(points.runs(part)) for part, walk in parts]
        return scores[0] if len(scores) == 1 else torch.cat(scores)

    def backward(self, points: Points, gradient: Tensor) -> None:
        """Write `.grad` of every parameter; `gradient [run, spot]` is that of the loss by the last scores."""
        for part, walk in zip(self._parts, self._walks, strict=True):
            walk.backward(points.runs(part), gradient[part])

    def _walk(self, parameters: list[Tensor], gradients: list[Tensor]) -> Lines | CompiledLines:
        return (CompiledLines if serves(self.w) else Lines)(parameters, gradients)


def _linear(before: int, after: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[before, after]` and biases `[after]`, uniform within 1 / sqrt(before)."""
    bound = 1 / math.sqrt(before)
    return rng.uniform(-bound, bound, (before, after)), rng.uniform(-bound, bound, after)
