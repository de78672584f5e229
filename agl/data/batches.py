"""Spots in batches: which spots together (samplers), and what a batch holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agl.data.ahead import ReadAhead, reading_ahead
from agl.data.dataset import Dataset

DENSE_LIMIT = 1 << 28  # entries of a [spot, gene] table kept dense in memory (1 GiB of float32)


class Batch(NamedTuple):
    """Some spots, ready for a model and a loss."""

    inputs: Tensor  # features [spot, feature], or patches uint8 [spot, height, width, 3]
    counts: Tensor  # float32 [spot, gene], the genes of the panel
    library_size: Tensor  # float32 [spot], totals over all genes
    slides: Tensor  # int64 [spot]
    spots: Tensor  # int64 [spot], positions in the dataset

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class SpotLoader:
    """Reads spots of one dataset for one panel of genes.

    Counts stay sparse unless the panel is small; features stay memory-mapped.

    Args:
        dataset: where the spots are.
        genes: positions of the panel's genes in `dataset.genes`, in panel order.
        reduce: what a model keeps of patches uint8 `[spot, height, width, 3]`; read once, then held in memory.
    """

    def __init__(
        self, dataset: Dataset, genes: np.ndarray, *, reduce: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        self.dataset = dataset
        self._reduced = None if reduce is None or dataset.patches is None else Reduced(dataset, reduce)
        self._ahead: ReadAhead | None = None
        self.counts = dataset.panel_counts(genes)
        small = len(dataset.spots) * len(genes) <= DENSE_LIMIT
        self._dense = torch.from_numpy(self.counts.toarray().astype(np.float32)) if small else None
        self._library = torch.from_numpy(np.asarray(dataset.library_size, dtype=np.float32))
        self._slides = torch.from_numpy(np.asarray(dataset.slide_codes, dtype=np.int64))

    def __call__(self, spots: np.ndarray, *, inputs: slice = slice(None)) -> Batch:
        """The batch of these spots, in this order; `inputs` says of which of them the inputs are wanted."""
        return self._batch(spots, self.inputs(spots[inputs]))

    def batches(
        self,
        parts: Sequence[np.ndarray],
        *,
        share: Callable[[int], slice] = lambda n: slice(None),
        sparse: bool = False,
    ) -> Iterator[Batch]:
        """A batch of each of these sets of spots in turn; `share` says of which of n spots the inputs are wanted.

        With `sparse`, counts that are kept sparse stay so: compressed rows of torch.
        """
        read = self.inputs_in_turn([spots[share(len(spots))] for spots in parts])
        return (self._batch(spots, inputs, sparse) for spots, inputs in zip(parts, read, strict=True))

    @property
    def is_sparse(self) -> bool:
        """Whether the panel is too large to be kept as a table."""
        return self._dense is None

    def _batch(self, spots: np.ndarray, inputs: Tensor, sparse: bool = False) -> Batch:
        rows = torch.from_numpy(np.asarray(spots, dtype=np.int64))
        if self._dense is not None:
            counts = self._dense[rows]
        elif sparse:
            counts = _rows_of_torch(self.counts[spots])
        else:
            counts = torch.from_numpy(self.counts[spots].toarray().astype(np.float32))
        return Batch(inputs, counts, self._library[rows], self._slides[rows], rows)

    def inputs(self, spots: np.ndarray) -> Tensor:
        """Features where there are any, else patches."""
        if self.dataset.features is not None:
            return torch.from_numpy(np.asarray(self.dataset.features[spots], dtype=np.float32))
        assert self.dataset.patches is not None
        read = self.dataset.patches.read if self._reduced is None else self._reduced.read
        return torch.from_numpy(read(spots))

    def inputs_in_turn(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Inputs of each of these sets of spots, read ahead where somebody does."""
        return map(self.inputs, parts) if self._ahead is None else self._ahead(parts)

    @contextmanager
    def read_by(self, workers: int, *, pin: bool = False) -> Iterator[None]:
        """Have patches read ahead inside; features, and what is kept of patches, lie in memory as they are."""
        if workers == 0 or self.dataset.patches is None or not self.from_disk:
            yield
            return
        with reading_ahead(self.dataset.patches.read, workers, pin=pin) as self._ahead:
            try:
                yield
            finally:
                self._ahead = None

    @property
    def from_disk(self) -> bool:
        """Whether the inputs are patches, read from their files each time."""
        return self.dataset.features is None and self._reduced is None

    def in_order(self, spots: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """All these spots, once, in their order: for scoring."""
        for start in range(0, len(spots), batch_size):
            yield self(spots[start : start + batch_size])


def _rows_of_torch(table: Any) -> Tensor:
    """Compressed rows of SciPy as torch's, float32."""
    table.sort_indices()
    start, indices = (torch.from_numpy(part.astype(np.int64)) for part in (table.indptr, table.indices))
    values = torch.from_numpy(table.data.astype(np.float32))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta state.*")  # nothing is computed with it but by strank
        return torch.sparse_csr_tensor(start, indices, values, size=table.shape, check_invariants=False)


class Reduced:
    """What is kept of the patches, each read from disk once."""

    def __init__(self, dataset: Dataset, reduce: Callable[[np.ndarray], np.ndarray]) -> None:
        assert dataset.patches is not None
        self._patches, self._reduce = dataset.patches, reduce
        self._known = np.zeros(len(dataset.spots), dtype=bool)
        self._table: np.ndarray | None = None

    def read(self, spots: np.ndarray) -> np.ndarray:
        """As `Patches.read`, reduced."""
        wanted = np.unique(np.asarray(spots)[~self._known[spots]])
        for start in range(0, len(wanted), 256):
            part = wanted[start : start + 256]
            values = self._reduce(self._patches.read(part))
            if self._table is None:
                self._table = np.empty((len(self._known), *values.shape[1:]), dtype=values.dtype)
            self._table[part] = values
            self._known[part] = True
        assert self._table is not None, "no spots to read"
        return self._table[spots]


Sampler = Callable[[np.ndarray, int, np.random.Generator], list[np.ndarray]]


def shuffled(slides: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All spots in one shuffled row, cut into even batches.

    >>> [len(b) for b in shuffled(np.zeros(10), 4, np.random.default_rng(0))]
    [4, 3, 3]
    """
    return _even(rng.permutation(len(slides)), batch_size)


def grouped(
    slides: np.ndarray, batch_size: int, rng: np.random.Generator, *, slides_per_batch: int = 4
) -> list[np.ndarray]:
    """Batches of a few slides each, so that the lists of a list loss are long.

    Every slide is shuffled and cut into pieces of `batch_size / slides_per_batch` spots; the pieces are shuffled and
    dealt out `slides_per_batch` at a time. 1 gives batches of a single slide.

    >>> slides = np.repeat([0, 1, 2], 8)
    >>> batches = grouped(slides, 8, np.random.default_rng(0), slides_per_batch=1)
    >>> [len(set(slides[b])) for b in batches]
    [1, 1, 1]
    """
    pieces = [
        piece
        for slide in np.unique(slides)
        for piece in _even(rng.permutation(np.flatnonzero(slides == slide)), max(2, batch_size // slides_per_batch))
    ]
    order = rng.permutation(len(pieces))
    deals = np.array_split(order, -(-len(order) // slides_per_batch))
    return [np.concatenate([pieces[i] for i in deal]) for deal in deals]


def by_slide(slides: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every batch is a slide with all its spots, whatever `batch_size`: for models that look at a slide as a whole.

    >>> sorted(b.tolist() for b in by_slide(np.array([0, 1, 0]), 2, np.random.default_rng(0)))
    [[0, 2], [1]]
    """
    return [np.flatnonzero(slides == code) for code in rng.permutation(np.unique(slides))]


def balanced(slides: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every batch holds equally many spots of every slide; small slides come round again, reshuffled.

    >>> slides = np.array([0] * 6 + [1] * 2)
    >>> [np.bincount(slides[b]).tolist() for b in balanced(slides, 4, np.random.default_rng(0))]
    [[2, 2], [2, 2], [2, 2]]
    """
    codes = np.unique(slides)
    share = max(2, batch_size // len(codes))  # one spot alone ranks nothing
    rounds = -(-max(int((slides == code).sum()) for code in codes) // share)
    streams = [_endless(np.flatnonzero(slides == code), share * rounds, rng) for code in codes]
    return [np.concatenate([stream[i * share : (i + 1) * share] for stream in streams]) for i in range(rounds)]


def _endless(spots: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    turns = [rng.permutation(spots) for _ in range(-(-length // len(spots)))]
    return np.concatenate(turns)[:length]


def _even(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut into batches of nearly one size, so that no batch is left with a spot or two."""
    return np.array_split(order, -(-len(order) // batch_size)) if len(order) else []
