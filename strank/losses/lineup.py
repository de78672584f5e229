"""The lists of spots of a batch, found once, however many tiles of genes are then worked on."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from strank.groups import Block, blocks, line_up

_CHUNK, _MOST_CHUNKS = 128, 64  # spots of a chunk at least; chunks of a list at most
_NEAR = 1 << 16  # spots that a CPU lines up before a GPU has begun


class Chunks(NamedTuple):
    """Lists cut into pieces that work side by side on a GPU, and are put together again."""

    order: Tensor | None  # spots list after list, [spot]; None: as they lie
    table: Tensor  # int32 [chunk, 5]: first position, number of spots, its list, that list's first chunk and chunks
    lengths: Tensor  # of the lists, int64


class LineUp:
    """What of a batch does not depend on the genes; worked out when first asked for, then kept.

    Args:
        groups: codes `[spot]` of the lists, None for one list.
        keep: bool `[spot]` if some spots take no part.
    """

    def __init__(self, groups: Tensor | None, keep: Tensor | None) -> None:
        self.groups, self.keep = groups, keep
        self._blocks: dict[tuple[int, int], list[Block]] = {}
        self._chunks: Chunks | None = None

    def blocks(self, n_spots: int, n_genes: int, device: torch.device) -> list[Block]:
        """As `strank.groups.blocks`."""
        if (n_spots, n_genes) not in self._blocks:
            found = blocks(self.groups, n_spots, n_genes, keep=self.keep, device=device)
            self._blocks[n_spots, n_genes] = found
        return self._blocks[n_spots, n_genes]

    def chunks(self, n_spots: int, device: torch.device) -> Chunks:
        """The lists in pieces, on the device."""
        if self._chunks is None:
            groups, keep = self.groups, self.keep
            if n_spots <= _NEAR:
                groups, keep = (None if tensor is None else tensor.cpu() for tensor in (groups, keep))
            order, lengths = line_up(groups, n_spots, keep)
            table = chunk_table(lengths.tolist()).to(device)
            self._chunks = Chunks(None if order is None else order.to(device), table, lengths.to(device))
        return self._chunks


def chunk_table(lengths: list[int]) -> Tensor:
    """`Chunks.table` of lists that lie one after the other.

    >>> chunk_table([3, 600])[:, :2].tolist()
    [[0, 3], [3, 120], [123, 120], [243, 120], [363, 120], [483, 120]]
    """
    rows: list[list[int]] = []
    begin = 0
    for nth, length in enumerate(lengths):
        pieces = min(_MOST_CHUNKS, -(-length // _CHUNK))
        first = len(rows)
        edges = [begin + length * piece // max(1, pieces) for piece in range(pieces + 1)]
        rows += [[a, b - a, nth, first, pieces] for a, b in itertools.pairwise(edges)]
        begin += length
    return torch.tensor(rows, dtype=torch.int32).view(-1, 5)
