"""Tie-aware ranks, exact at any size: counts tie by the hundred thousand, where 32-bit rank sums overflow."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from strank.segments import Segments, in_numpy

CHUNK = 1 << 19  # entries of a [gene, spot] table worked on at once: 4 MiB in float64, near the processor
EXACT_INTEGER = 1 << 53  # float64 holds every integer up to here


@torch.no_grad()
def average_ranks(values: Tensor, slides: Tensor | None = None) -> Tensor:
    """Ranks from 1, ties sharing their mean rank, within each slide.

    rank_i = #{j: v_j < v_i} + (#{j: v_j = v_i} + 1) / 2, over the spots j of the slide of i.

    Args:
        values: `[spot, gene]`, any real dtype.
        slides: integer codes `[spot]`, in any order; None for one slide.

    Returns:
        float64 `[spot, gene]`; NaN for all spots of a slide and gene that holds a NaN (SciPy's "propagate").

    Raises:
        TypeError: complex values, or slide codes that are not integers.
        ValueError: wrong shapes; integers beyond 2^53, whose ties float64 could not tell.

    Source: M. G. Kendall, Biometrika 33 (1945) 239: the treatment of ties in ranking problems.

    >>> average_ranks(torch.tensor([[0], [3], [0], [1]])).T
    tensor([[1.5000, 4.0000, 1.5000, 3.0000]], dtype=torch.float64)
    >>> average_ranks(torch.tensor([[0], [3], [0], [1]]), slides=torch.tensor([0, 1, 1, 0])).T
    tensor([[1., 2., 1., 2.]], dtype=torch.float64)
    """
    check_table(values, "values")
    segments = Segments(slides, len(values), values.device)
    out = torch.empty(values.shape, dtype=torch.float64, device=values.device)
    for genes in gene_chunks(*values.shape):
        out[:, genes] = segments.spot_major(ranks_by_gene(segments.gene_major(values[:, genes]), segments))
    return out


def ranks_by_gene(values: Tensor, segments: Segments) -> Tensor:
    """Average ranks of float64 `[gene, spot]` in slide order, within slides; NaN where a slide holds one."""
    if values.numel() == 0:
        return torch.empty_like(values)
    order, is_new = sort_within(values, segments)
    starts = is_new.flatten().nonzero().squeeze(1)  # of runs of ties, over all genes laid end to end
    lengths = torch.diff(starts, append=starts.new_tensor([is_new.numel()]))
    first = starts % values.shape[1]
    first = first - segments.starts[segments.ids[first]]  # rank of the run within its slide, from 0
    shared = first + (lengths + 1).to(torch.float64) / 2
    ranks = torch.repeat_interleave(shared, lengths, output_size=is_new.numel()).view_as(values)
    out = torch.empty_like(values).scatter_(1, order, ranks)
    missing = values.isnan()
    if missing.any():
        out[segments.spread(segments.max(missing.to(torch.float64)) > 0).expand_as(out)] = torch.nan
    return out


def codes_by_gene(values: Tensor, segments: Segments) -> Tensor:
    """int64 `[gene, spot]`: equal values of a slide share a code, codes rise with slide, then value."""
    order, is_new = sort_within(values, segments)
    return torch.empty_like(order).scatter_(1, order, is_new.cumsum(1) - 1)


def sort_within(values: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """Sort float64 `[gene, spot]` within slides.

    One integer holds slide, value and spot, so that sorting plain integers (vectorised in NumPy) gives the
    order and no second array moves along. The value loses its last bits to make room; float32 has them to
    spare, and where float64 does not, the genes concerned are sorted again in full.

    Returns:
        `order`: positions in `values`, int64 `[gene, spot]`; `is_new`: whether a run of ties starts here.
    """
    n_spots = values.shape[1]
    bits = _ordered_bits(values)
    slide_bits = (len(segments) - 1).bit_length()
    spot_bits = (int(segments.lengths.max()) - 1).bit_length()
    within = torch.arange(n_spots, device=values.device) - segments.starts[segments.ids]
    kept = (bits >> (slide_bits + spot_bits)) << spot_bits
    if slide_bits:
        # Signed values of 64 - slide_bits bits, made unsigned, below the slide's number, made signed.
        kept += (segments.ids - (1 << (slide_bits - 1))) << (64 - slide_bits)
        kept += 1 << (63 - slide_bits)
    order = sort_integers(kept + within)
    order &= (1 << spot_bits) - 1
    order += segments.starts[segments.ids]
    ordered = bits.gather(1, order)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[:, 1:], ordered[:, :-1], out=is_new[:, 1:])
    falls = ordered[:, 1:] < ordered[:, :-1]
    if len(segments) > 1:
        is_new[:, segments.starts] = True
        falls[:, segments.starts[1:] - 1] = False
    close = falls.any(1)
    if close.any():
        order[close], is_new[close] = _sort_in_full(bits[close], segments)
    return order, is_new


def _sort_in_full(bits: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """By value, then stably by slide: any 64 bits, at twice the price."""
    by_value = torch.sort(bits, dim=1, stable=True).indices
    by_slide = torch.sort(segments.ids[by_value], dim=1, stable=True).indices
    order = by_value.gather(1, by_slide)
    ordered = bits.gather(1, order)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_new[:, segments.starts] = True
    return order, is_new


def _ordered_bits(values: Tensor) -> Tensor:
    """int64 that sort like the float64 they stand for."""
    bits = values.view(torch.int64)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


def sort_integers(keys: Tensor) -> Tensor:
    """Sort int64 along the last dimension, possibly in place."""
    if not in_numpy(keys):
        return keys.sort(dim=-1).values
    keys.numpy().sort(axis=-1)  # torch's sort carries indices along
    return keys


def inversions(codes: Tensor) -> Tensor:
    """For int64 `[gene, spot]`: how many larger codes stand before each place, summed over its merges.

    A merge sort, all genes and blocks at once: O(n log^2 n) time, no table of pairs. Counts are booked at a
    place, not a spot; a slide's places stay its own as long as codes rise from slide to slide.
    """
    n_genes, n_spots = codes.shape
    size = 1 << max(n_spots - 1, 1).bit_length()
    padded = codes.new_full((n_genes, size), int(codes.max()) if codes.numel() else 0)
    padded[:, :n_spots] = codes
    found = torch.zeros_like(padded)
    width = 1
    while width < n_spots:
        blocks = padded.view(n_genes, -1, 2, width)
        left, right = blocks[:, :, 0].contiguous(), blocks[:, :, 1].contiguous()
        found.view_as(blocks)[:, :, 1] += width - torch.searchsorted(left, right, right=True)
        width *= 2
        padded = sort_integers(padded.view(n_genes, -1, width)).view(n_genes, size)
    return found[:, :n_spots]


def gene_chunks(n_spots: int, n_genes: int) -> Iterator[slice]:
    """Slices of genes such that `[spot, gene]` of one slice stays small; at least one gene each."""
    step = max(1, CHUNK // max(n_spots, 1))
    for start in range(0, n_genes, step):
        yield slice(start, min(start + step, n_genes))


def check_table(values: Tensor, name: str) -> None:
    """Refuse what is not a `[spot, gene]` table of real numbers that float64 can hold."""
    if not isinstance(values, Tensor):
        raise TypeError(f"Expected {name} as a torch tensor, received {type(values).__name__}; use torch.as_tensor.")
    if values.is_complex():
        raise TypeError(f"Expected real {name}, received {values.dtype}.")
    if values.ndim != 2:
        raise ValueError(
            f"Expected {name} of shape [spot, gene], received {list(values.shape)}: add the gene dimension."
        )
    if values.dtype in (torch.int64, torch.uint64) and values.numel():
        whole = values.to(torch.int64)
        if int(whole.max()) > EXACT_INTEGER or int(whole.min()) < -EXACT_INTEGER:
            raise ValueError(f"Expected {name} within ±2^53, received larger integers: float64 cannot tell them apart.")
