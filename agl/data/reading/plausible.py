"""Whole numbers that cannot be counts: binarised, rounded logarithms, scaled to one total and rounded.

Counts vary at least as much as chance does when it counts: X given its rate is Poisson, so that over the spots
Var[X] >= E[X], and a gene of rate r is seen twice or more with probability 1 - exp(-r) (1 + r). Each rule asks for a
contradiction of this, never for large numbers: fine bins have small counts.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

_SPOTS = 10  # below, nothing is said
_MOST_SPOTS = 10_000  # of larger sections every n-th spot is looked at, and all for the smallest and largest count
_TOP, _FEWEST_TOP, _TOP_MEAN = 20, 5, 0.5  # genes whose variance is looked at
_UNDISPERSED, _EVEN = 0.7, 0.5  # at most, of Poisson's variance: of the top genes, of the totals
_SIGMAS = 5.0
_REPEATS = 20.0  # expected entries above one: their absence has probability exp(-20)
_GAP, _GAP_SPOTS, _GAP_GENES = 0.01, 5, 50


class Tally:
    """What the rules need to know of one slide of `n_spots`, block by block.

    >>> tally = Tally(np.ones(2, bool), 2)
    >>> tally.add(0, sparse.csr_matrix([[3, 0], [0, 5]])); tally.doubts()
    []
    """

    def __init__(self, is_gene: np.ndarray, n_spots: int) -> None:
        self._is_gene, self._step = is_gene, max(1, -(-n_spots // _MOST_SPOTS))
        self._sum, self._squares, self._detected = (np.zeros(len(is_gene)) for _ in range(3))
        self._smallest, self._largest = np.iinfo(np.int64).max, 0
        self._totals: list[np.ndarray] = []
        self._spots = self._wide = self._gaps = 0

    def add(self, start: int, block: sparse.csr_matrix) -> None:
        """Add counts `[some spots, gene in file]`, those from spot `start` on."""
        counts = block.data if self._is_gene.all() else block.data[self._is_gene[block.indices]]
        counts = counts if not len(counts) or counts.min() > 0 else counts[counts > 0]
        if len(counts):
            self._smallest = min(self._smallest, int(counts.min()))
            self._largest = max(self._largest, int(counts.max()))
        self._look_at(block[-start % self._step :: self._step])

    def _look_at(self, block: sparse.csr_matrix) -> None:
        n_spots, n_genes = block.shape
        row = np.repeat(np.arange(n_spots), np.diff(block.indptr))
        known = self._is_gene[block.indices] & (block.data > 0)
        row, gene, count = row[known], block.indices[known], block.data[known].astype(np.float64)
        self._spots += n_spots
        self._sum += np.bincount(gene, count, minlength=n_genes)
        self._squares += np.bincount(gene, count**2, minlength=n_genes)
        self._detected += np.bincount(gene, minlength=n_genes)
        self._totals.append(np.bincount(row, count, minlength=n_spots))
        positive, ones = np.bincount(row, minlength=n_spots), np.bincount(row[count == 1], minlength=n_spots)
        wide = (positive >= _GAP_GENES) & (self._is_gene.sum() - positive >= _GAP_GENES)
        self._wide += int(wide.sum())
        self._gaps += int((wide & (ones == 0)).sum())

    def doubts(self) -> list[str]:
        """One sentence for each contradiction; [] for counts."""
        if self._spots < _SPOTS or not self._largest:
            return []
        rules = (self._binarised(), self._even_totals(), self._gap(), self._undispersed())
        found = [sentence for sentence in rules if sentence]
        return [f"{sentence}; give the raw counts." for sentence in found]

    def _binarised(self) -> str | None:
        if self._smallest != self._largest:
            return None
        rate = -np.log1p(-np.minimum(self._detected / self._spots, 1 - 0.5 / self._spots))
        repeats = float(self._step * self._spots * -(np.expm1(-rate) + rate * np.exp(-rate)).sum())
        if repeats < _REPEATS:
            return None
        return (
            f"All counts are 0 or {self._largest}, where {repeats:,.0f} higher ones would be expected of counts as "
            "frequent as these: they look binarised"
        )

    def _even_totals(self) -> str | None:
        totals = np.concatenate(self._totals)
        share = totals.var() / totals.mean()
        if share > max(0.0, min(_EVEN, self._bound(1))) or totals.mean() < _REPEATS:
            return None
        return (
            f"Every spot has nearly the same total ({totals.min():,.0f} to {totals.max():,.0f} counts), nearer than "
            "chance allows: they look scaled to one total or drawn down to it"
        )

    def _gap(self) -> str | None:
        if self._gaps < max(_GAP_SPOTS, _GAP * self._wide) or self._smallest == self._largest:
            return None
        return (
            f"In {self._gaps} of {self._wide} spots no gene has exactly 1 count, while many have none and many have "
            "more: they look scaled (to one total) and rounded"
        )

    def _undispersed(self) -> str | None:
        mean = self._sum / self._spots
        top = np.argsort(-mean, kind="stable")[:_TOP]
        top = top[mean[top] >= _TOP_MEAN]
        if len(top) < _FEWEST_TOP:
            return None
        variance = self._squares[top] / self._spots - mean[top] ** 2
        share = float(variance.sum() / mean[top].sum())
        if share > min(_UNDISPERSED, self._bound(len(top))) or self._smallest == self._largest:
            return None
        return (
            f"The {len(top)} most expressed genes vary {share:.2f} times as much as counting alone makes counts vary "
            f"(largest count {self._largest}): they look like rounded logarithms or roots"
        )

    def _bound(self, n_genes: int) -> float:
        """The least share of Poisson's variance that chance allows in so many spots and genes."""
        return 1 - _SIGMAS * float(np.sqrt(2 / (self._spots * n_genes)))
