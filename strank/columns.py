"""Columns of a table inside slides, as correlations see them: `[gene, spot]`, float64, spots in slide order."""

from __future__ import annotations

import torch
from torch import Tensor

from strank.groups import varies
from strank.ranks import ranks_by_gene
from strank.segments import Segments


def centred(values: Tensor, segments: Segments) -> Tensor:
    """Deviations from the slide's mean, in units of its range: neither 1e300 nor 1e-300 is lost."""
    low, high = segments.min(values), segments.max(values)
    scaled = values / 2 - segments.spread(low / 2)  # halves: the range of two floats may itself overflow
    scaled = scaled / segments.spread((high / 2 - low / 2).clamp_min(torch.finfo(torch.float64).tiny))
    return scaled - segments.spread(segments.sum(scaled) / segments.lengths)


def centred_ranks(values: Tensor, segments: Segments) -> Tensor:
    """Tie-aware ranks less their mean in the slide."""
    return ranks_by_gene(values, segments) - segments.spread((segments.lengths[None, :] + 1) / 2)


def squares(values: Tensor, segments: Segments) -> Tensor:
    """Summed over the slide, `[gene, slide]`."""
    return segments.sum(values * values)


def cosine(a: Tensor, b: Tensor, a_squares: Tensor, b_squares: Tensor, segments: Segments) -> Tensor:
    """Of the angle between two columns, `[gene, slide]`."""
    # one root of the product: exactly 1 for equal vectors; the clamp takes off rounding only
    return (segments.sum(a * b) / (a_squares * b_squares).sqrt()).clamp(-1, 1)


def finite(values: Tensor, segments: Segments) -> Tensor:
    """bool `[gene, slide]`."""
    unusable = ~values.isfinite()
    if not unusable.any():
        return torch.ones(len(values), len(segments), dtype=torch.bool, device=values.device)
    return segments.sum(unusable.double()) == 0


def varying(values: Tensor, segments: Segments, dtype: torch.dtype) -> Tensor:
    """bool `[gene, slide]`: by more than the rounding of the dtype they came in, see `strank.groups.varies`."""
    return varies(segments.min(values), segments.max(values), dtype)
