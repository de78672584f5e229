"""Random draws inside slides: lists of spots, and partners for pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def shuffled_within(slides: Tensor | None, n_spots: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """A random order of the spots that keeps slides together, and the dense slide codes in that order."""
    device = slides.device if slides is not None else None
    where = generator.device if generator is not None else device
    order = torch.randperm(n_spots, generator=generator, device=where).to(device or "cpu")
    if slides is None:
        return order, torch.zeros_like(order)
    codes, by_slide = slides.unique(return_inverse=True)[1][order].sort(stable=True)
    return order[by_slide], codes


def random_lists(slides: Tensor | None, n_spots: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Codes `[spot]` of random lists of at most `size` spots of one slide, as even as can be; each spot is in one list.

    >>> codes = random_lists(None, 10, 4, torch.Generator().manual_seed(0))
    >>> sorted(codes.bincount().tolist())
    [3, 3, 4]
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"Expected list_size as a whole number or None, received {size!r}.")
    if size < 2:
        raise ValueError(f"Expected list_size of at least 2, received {size}; None takes all spots of a slide.")
    order, codes = shuffled_within(slides, n_spots, generator)
    lengths = codes.bincount()
    place = torch.arange(n_spots, device=codes.device) - (lengths.cumsum(0) - lengths)[codes]
    pieces = -(-lengths // size)
    first_list = pieces.cumsum(0) - pieces
    piece = place * pieces[codes] // lengths[codes]
    return torch.empty_like(codes).index_copy_(0, order, first_list[codes] + piece)


class Partners(NamedTuple):
    """For every spot another spot of its slide; a spot without one is its own partner."""

    of: Tensor  # [spot]
    inverse: Tensor  # [spot]: whose partner a spot is, so that gradients are gathered, not scattered
    lonely: Tensor  # bool [spot]


def draw_partners(
    slides: Tensor | None,
    n_spots: int,
    n_partners: int,
    generator: torch.Generator | None,
    *,
    keep: Tensor | None = None,
) -> list[Partners]:
    """`n_partners` different partners for every spot (as far as its slide has as many), never itself.

    The spots of a slide are put in a random circle; the k-th partner sits k places further on. Spots outside `keep`
    take no part. Where no slide has so many others, there are fewer: each spot then meets all the others once.
    """
    if n_partners < 1:
        raise ValueError(f"Expected n_partners of at least 1, received {n_partners}; give a positive number.")
    groups = slides
    if keep is not None:
        nowhere = torch.zeros(n_spots, dtype=torch.long, device=keep.device)
        dense = nowhere if slides is None else slides.unique(return_inverse=True)[1]
        groups = torch.where(keep, dense, n_spots + torch.arange(n_spots, device=keep.device))
    order, codes = shuffled_within(groups, n_spots, generator)
    counts = codes.bincount()
    lengths = counts[codes]
    start = (counts.cumsum(0) - counts)[codes]
    place = torch.arange(n_spots, device=codes.device) - start
    lonely = torch.empty_like(order, dtype=torch.bool).index_copy_(0, order, lengths == 1)
    if n_partners > 1 and len(counts):
        n_partners = min(n_partners, max(1, int(counts.max()) - 1))  # more would only repeat them
    drawn = []
    for k in range(n_partners):
        shift = torch.where(lengths > 1, 1 + k % (lengths - 1).clamp(min=1), 0)
        other = order[start + (place + shift) % lengths]
        of = torch.empty_like(order).index_copy_(0, order, other)
        drawn.append(Partners(of, torch.empty_like(order).index_copy_(0, other, order), lonely))
    return drawn
