"""Spots by slide: checked inputs, lists of spots as padded blocks, random lists, partners, what is usable.

Every loss sees its spots through a few *blocks*: slides of about equal length stacked to `[list, spot, gene]`, so that
no loop runs over slides. Neighbouring spots of sorted slides are a view; all others are gathered.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FEWEST_SPOTS = 3  # for a correlation: that of two spots is 1 or -1 whatever their values
LAST_PLACES = 4  # range of a constant column, in units of float rounding at its largest value
PADDING = -1e30  # a logit that softmax turns into exactly 0, yet 0 * PADDING is 0 (not NaN as for -inf)
_STEP_COST = 1 << 15  # elements that may be wasted on padding before another block is cheaper


class Block(NamedTuple):
    """Some lists of spots, padded to one length; `size = n_lists * length` rows."""

    rows: slice | Tensor  # of the batch, list after list; a padded row repeats one of its own list
    n_lists: int
    length: int
    lengths: Tensor  # [list, 1, 1] true lengths, as float
    real: Tensor | None  # bool [list, spot, 1]; None where nothing is padded

    def take(self, table: Tensor) -> Tensor:
        """`[spot, gene]` or `[spot]` of the batch -> `[list, spot, gene]` or `[list, spot]`, a view where possible."""
        if isinstance(self.rows, slice):  # a slice's backward fills a whole table: none where nothing is cut
            part = table if self.n_lists * self.length == len(table) else table[self.rows]
        else:
            part = table.index_select(0, self.rows)
        return part.reshape(self.n_lists, self.length, *table.shape[1:])

    def goal(self, nowhere: int) -> Tensor:
        """The rows of a gathered block, with `nowhere` for padding."""
        assert isinstance(self.rows, Tensor)
        return self.rows if self.real is None else torch.where(self.real.flatten(), self.rows, nowhere)

    def clear_(self, values: Tensor, fill: float) -> Tensor:
        """Overwrite the padding of a gathered `[list, spot, gene]` in place; touches no other row."""
        if self.real is not None:
            values.view(-1, values.shape[2]).index_fill_(0, (~self.real).flatten().nonzero().squeeze(1), fill)
        return values


def check_inputs(
    scores: Tensor, counts: Tensor, slides: Tensor | None = None, library_size: Tensor | None = None
) -> None:
    """Shapes and types as every loss expects them; ValueError or TypeError otherwise."""
    for name, value in (("scores", scores), ("counts", counts), ("slides", slides), ("library_size", library_size)):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"Expected {name} as a torch tensor, received {type(value).__name__}; use torch.as_tensor.")
    check_holds_values(scores=scores, counts=counts)
    if not scores.is_floating_point():
        raise TypeError(f"Expected floating-point scores, received {scores.dtype}; pass the model's output.")
    if scores.ndim != 2 or scores.shape != counts.shape:
        raise ValueError(
            "Expected scores and counts of one shape [spot, gene], "
            f"received {tuple(scores.shape)} and {tuple(counts.shape)}; select the same spots and genes for both."
        )
    for name, value in (("slides", slides), ("library_size", library_size)):
        if value is not None and value.shape != scores.shape[:1]:
            raise ValueError(
                f"Expected {name} of shape [spot] = ({len(scores)},), "
                f"received {tuple(value.shape)}; give one value per spot."
            )
    if slides is not None and (slides.is_floating_point() or slides.is_complex()):
        raise TypeError(f"Expected integer slide codes, received {slides.dtype}; use slides.long().")


def check_holds_values(**tables: Tensor) -> None:
    """ValueError for a table of shapes without numbers."""
    for name, table in tables.items():
        if table.is_meta:
            raise ValueError(
                f"Expected {name} that hold values, received them on the device 'meta', which has shapes alone; "
                "move them to a CPU or GPU."
            )


def varies(low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether a column of `dtype` between these extremes varies by more than rounding.

    The one rule for losses and metrics. Integers and half floats are taken at their word: their neighbouring values are
    far apart, and mean what they say. NaN and infinities vary, so that they are seen.

    >>> low, high = torch.tensor([0.3, 0.3]), torch.tensor([0.1 + 0.2, 0.31])
    >>> varies(low, high, torch.float32).tolist()
    [False, True]
    """
    rounding = LAST_PLACES * torch.finfo(dtype).eps if dtype in (torch.float32, torch.float64) else 0.0
    largest = torch.maximum(high.abs(), low.abs())
    return ~((high - low <= rounding * largest) & largest.isfinite())


def blocks(
    slides: Tensor | None,
    n_spots: int,
    n_genes: int,
    *,
    keep: Tensor | None = None,
    device: torch.device | None = None,
) -> list[Block]:
    """The lists of spots of a batch: one list per slide code, spots outside `keep` (bool `[spot]`) left out.

    Codes need not be sorted, contiguous or small. Lists of similar length share a block; a new block is opened when
    padding would cost more than a block does.

    >>> [(b.n_lists, b.length) for b in blocks(torch.tensor([7, 2, 7, 7]), 4, 100_000)]
    [(1, 3), (1, 1)]
    """
    if not n_spots:
        return []
    if slides is None and keep is None:
        return [_whole(n_spots, device, None)]
    order, lengths = line_up(slides, n_spots, keep)
    if len(lengths) < 2:
        return [_whole(int(lengths[0]), lengths.device, order)] if len(lengths) else []
    return _classes(lengths, order, n_genes)


def line_up(slides: Tensor | None, n_spots: int, keep: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Spots slide after slide: their order (None: as they lie) and the length of every slide, both int64.

    >>> line_up(torch.tensor([7, 2, 7]), 3, None)
    (tensor([1, 0, 2]), tensor([1, 2]))
    """
    rows = None if keep is None else keep.nonzero().squeeze(1)
    if slides is None:
        n_kept = n_spots if rows is None else len(rows)
        return rows, torch.full((min(1, n_kept),), n_kept, device=None if rows is None else rows.device)
    codes = slides if rows is None else slides.index_select(0, rows)
    if bool((codes[1:] >= codes[:-1]).all()):
        order = rows  # None: the batch is sorted and complete, so lists are slices of it
    else:
        by_slide = codes.argsort()  # not stable: deterministic all the same, and twice as fast
        codes = codes[by_slide]
        order = by_slide if rows is None else rows[by_slide]
    return order, codes.unique_consecutive(return_counts=True)[1]


def _whole(n_spots: int, device: torch.device | None, order: Tensor | None) -> Block:
    lengths = torch.full((1, 1, 1), float(n_spots), device=device)
    return Block(slice(0, n_spots) if order is None else order, 1, n_spots, lengths, None)


def _classes(lengths: Tensor, order: Tensor | None, n_genes: int) -> list[Block]:
    """Lists that follow each other in `order` -> blocks of lists of about equal length, longest first."""
    starts = lengths.cumsum(0) - lengths
    by_length = lengths.argsort(descending=True, stable=True)
    found: list[Block] = []
    first, waste = 0, 0
    sizes: list[int] = lengths[by_length].tolist()
    for at, size in enumerate(sizes):
        waste += (sizes[first] - size) * n_genes
        if waste > _STEP_COST:
            found.append(_block(by_length[first:at], lengths, starts, order, sizes[first]))
            first, waste = at, 0
    found.append(_block(by_length[first:], lengths, starts, order, sizes[first]))
    return found


def _block(lists: Tensor, lengths: Tensor, starts: Tensor, order: Tensor | None, length: int) -> Block:
    own, begin = lengths[lists], starts[lists]
    true_lengths = own[:, None, None].float()
    padded = bool((own != length).any())
    if order is None and not padded and bool((begin[1:] == begin[:-1] + length).all()):
        start = int(begin[0])
        return Block(slice(start, start + len(lists) * length), len(lists), length, true_lengths, None)
    steps = torch.arange(length, device=lengths.device)
    real = steps < own[:, None]
    positions = (begin[:, None] + torch.where(real, steps, 0)).flatten()
    rows = positions if order is None else order[positions]
    return Block(rows, len(lists), length, true_lengths, real[:, :, None] if padded else None)


class Coverage(NamedTuple):
    """What of a batch the losses can use; see `coverage`."""

    n_slides: int
    lonely_slides: int
    empty_spots: int
    lists: Tensor
    contrasts: Tensor

    @property
    def undefined(self) -> Tensor:
        """bool `[gene]`: pairwise and listwise likelihoods say nothing about these genes; their loss is exactly 0."""
        return self.lists == 0

    @property
    def constant(self) -> Tensor:
        """bool `[gene]`: no slide where the counts differ; Pearson and margin ranking are exactly 0.

        Pearson is 0, too, where all slides with a contrast have two spots.
        """
        return self.contrasts == 0


def coverage(counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None) -> Coverage:
    """Count what contributes nothing to a loss: one-spot slides, empty spots, genes without counts or contrast.

    Args:
        counts: `[spot, gene]`.
        slides: codes `[spot]`, None for one slide.
        library_size: `[spot]`, totals over all genes.

    Returns:
        `n_slides`; `lonely_slides` (one spot only: nothing to rank); `empty_spots` (library size 0); per gene the
        number of slides with two spots or more and a count (`lists`), and of those with unequal counts (`contrasts`).

    >>> found = coverage(torch.tensor([[1, 0], [2, 0], [5, 5]]), slides=torch.tensor([0, 0, 1]))
    >>> found.lonely_slides, found.lists.tolist(), found.undefined.tolist()
    (1, [1, 0], [False, True])
    """
    check_inputs(torch.empty(1).expand(counts.shape), counts, slides, library_size)
    keep = None if library_size is None else library_size != 0
    keep = None if keep is None or bool(keep.all()) else keep
    n_spots, n_genes = counts.shape
    codes = torch.zeros(n_spots, dtype=torch.long) if slides is None else slides.unique(return_inverse=True)[1]
    sizes = codes.bincount()
    lists = torch.zeros(n_genes, dtype=torch.long, device=counts.device)
    contrasts = torch.zeros_like(lists)
    for block in blocks(slides, n_spots, n_genes, keep=keep):
        part = block.take(counts)  # padding repeats a real row, so extremes are those of the list
        high, low = part.amax(1), part.amin(1)
        long_enough = block.lengths[:, 0] > 1
        lists += ((high > 0) & long_enough).sum(0)
        contrasts += ((high > low) & long_enough).sum(0)
    empty = 0 if keep is None else int((~keep).sum())
    return Coverage(len(sizes), int((sizes == 1).sum()), empty, lists, contrasts)
