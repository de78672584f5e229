"""Spots laid out slide after slide, genes first, so that a sum over a slide is a sum over neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Segments:
    """The slides of some spots, as runs of neighbours in `[gene, spot]` tables.

    Slide codes may be any integers, in any order, with gaps; they are numbered by rank here.

    Args:
        slides: integer codes `[spot]`, or None for one slide.
        n_spots: number of spots.
        device: where the spots live.

    Raises:
        TypeError: codes that are not integers.
        ValueError: not one code a spot.

    >>> segments = Segments(torch.tensor([7, 2, 7]), 3, torch.device("cpu"))
    >>> segments.codes.tolist(), segments.lengths.tolist()
    ([2, 7], [1, 2])
    >>> segments.sum(segments.gene_major(torch.tensor([[1.0], [2.0], [3.0]]))).tolist()
    [[2.0, 4.0]]
    """

    def __init__(self, slides: Tensor | None, n_spots: int, device: torch.device) -> None:
        self.order: Tensor | None = None  # spots in slide order; None when they are already
        if slides is None:
            self.codes = torch.zeros(1, dtype=torch.long, device=device)
            self.lengths = torch.full((1,), n_spots, dtype=torch.long, device=device)
        else:
            self.codes, self.lengths = self._group(slides, n_spots, device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.ids = torch.repeat_interleave(torch.arange(len(self), device=device), self.lengths)

    def _group(self, slides: Tensor, n_spots: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if slides.is_floating_point() or slides.is_complex() or slides.dtype == torch.bool:
            raise TypeError(f"Expected integer slide codes, received {slides.dtype}.")
        if slides.shape != (n_spots,):
            raise ValueError(f"Expected one slide code a spot, [{n_spots}], received {list(slides.shape)}.")
        ordered, order = torch.sort(slides.to(device=device, dtype=torch.long), stable=True)
        if not torch.equal(order, torch.arange(n_spots, device=device)):
            self.order = order
        codes, lengths = torch.unique_consecutive(ordered, return_counts=True)
        return codes, lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def gene_major(self, values: Tensor) -> Tensor:
        """`[spot, gene]` to float64 `[gene, spot]`, spots in slide order."""
        ordered = values if self.order is None else values[self.order]
        # + 0.0 makes the two zeros one value, also to code that looks at bits.
        return ordered.T.to(torch.float64, memory_format=torch.contiguous_format).contiguous() + 0.0

    def spot_major(self, values: Tensor) -> Tensor:
        """`[gene, spot]` in slide order back to `[spot, gene]` in the order the spots came."""
        if self.order is None:
            return values.T.contiguous()
        out = torch.empty_like(values.T, memory_format=torch.contiguous_format)
        out[self.order] = values.T
        return out

    def sum(self, values: Tensor) -> Tensor:
        """`[gene, spot] -> [gene, slide]`."""
        if len(self) == 1:
            return values.sum(1, keepdim=True)
        if in_numpy(values):
            return torch.from_numpy(np.add.reduceat(values.numpy(), self.starts.numpy(), axis=1))
        return values.new_zeros(len(values), len(self)).scatter_add_(1, self.ids.expand_as(values), values)

    def min(self, values: Tensor) -> Tensor:
        """`[gene, spot] -> [gene, slide]`; NaN where a value is NaN."""
        return self._extreme(values, "amin")

    def max(self, values: Tensor) -> Tensor:
        """`[gene, spot] -> [gene, slide]`; NaN where a value is NaN."""
        return self._extreme(values, "amax")

    def _extreme(self, values: Tensor, which: str) -> Tensor:
        if values.shape[1] == 0:
            return values.new_full((len(values), len(self)), torch.nan)
        if len(self) == 1:
            return values.amin(1, keepdim=True) if which == "amin" else values.amax(1, keepdim=True)
        if in_numpy(values):
            extreme = np.minimum if which == "amin" else np.maximum
            return torch.from_numpy(extreme.reduceat(values.numpy(), self.starts.numpy(), axis=1))
        out = values.new_empty(len(values), len(self))
        return out.scatter_reduce_(1, self.ids.expand_as(values), values, which, include_self=False)

    def spread(self, values: Tensor) -> Tensor:
        """`[gene, slide] -> [gene, spot]`, or something that broadcasts to it."""
        return values if len(self) == 1 else values[:, self.ids]


def in_numpy(values: Tensor) -> bool:
    """Whether NumPy can work on these values where they are: its sorts and run sums are several times as fast."""
    return values.device.type == "cpu"
