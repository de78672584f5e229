"""One section under two names: found by what its spots hold, whatever its spots and genes are called.

Spots are compared by signatures, sums over genes modulo 2^64, so that neither their order nor their names matter and a
few may be missing. Sections are compared over the genes that all of them measure: genes that one of two copies lacks
take no part. Sections that are merely neighbours share no spot; where spots of one section look alike themselves
(hardly a count each), nothing is concluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse

from agl.seeds import seeded

SHARED = 0.2  # share of the smaller section's spots from which on two sections are one
DISTINCT = 0.95  # share of a section's spots that must differ from each other for signatures to say anything
FEWEST = 5  # spots with counts
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Twins:
    """Two sections with the same counts in `shared` spots, out of `spots` of the smaller one."""

    first: str
    second: str
    shared: int
    spots: int

    @property
    def words(self) -> str:
        """What is the same, in a sentence."""
        return (
            f"Sections '{self.first}' and '{self.second}' have the same counts in {self.shared} of {self.spots} spots: "
            "one section twice; leave one of them out."
        )


def spot_signatures(counts: sparse.csr_matrix) -> np.ndarray:
    """uint64 `[spot, 2]`: of the counts gene by gene, and of the counts whatever gene they are of; 0 without any.

    With count c of gene g: sum of w(g) c and sum of h(c), modulo 2^64, w random odd numbers and h a mixing function.

    >>> a = sparse.csr_matrix([[3, 0, 1], [1, 0, 3], [0, 0, 0]])
    >>> of_genes, of_counts = spot_signatures(a).T
    >>> bool(of_genes[0] == of_genes[1]), bool(of_counts[0] == of_counts[1]), int(of_genes[2])
    (False, True, 0)
    """
    n_spots, n_genes = counts.shape
    weights = seeded(0, "twins").integers(0, 1 << 63, n_genes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.zeros((n_spots, 2), dtype=np.uint64)
    for rows in _blocks(counts.indptr):
        start, stop = counts.indptr[rows.start], counts.indptr[rows.stop]
        values = np.asarray(counts.data[start:stop]).astype(np.uint64)
        filled = np.flatnonzero(np.diff(counts.indptr[rows.start : rows.stop + 1]))
        if filled.size:
            at = counts.indptr[rows.start + filled] - start
            found[rows.start + filled, 0] = np.add.reduceat(weights[counts.indices[start:stop]] * values, at)
            found[rows.start + filled, 1] = np.add.reduceat(_mixed(values), at)
    return found


def find_twins(sections: Mapping[str, np.ndarray]) -> list[Twins]:
    """Pairs of sections that are one, from the signatures `[spot, 2]` of each, by either signature."""
    found: dict[tuple[str, str], Twins] = {}
    for column in (0, 1):
        telling = {slide: _telling(signatures[:, column]) for slide, signatures in sections.items()}
        for (first, second), shared in _in_common(list(telling.values())).items():
            a, b = list(telling)[first], list(telling)[second]
            spots = min(len(telling[a]), len(telling[b]))
            if shared >= max(FEWEST, SHARED * spots):
                found.setdefault((a, b), Twins(a, b, shared, spots))
    return [found[pair] for pair in sorted(found)]


def twins_of(counts: sparse.csr_matrix, slide_codes: np.ndarray, slides: Sequence[str]) -> list[Twins]:
    """Pairs of slides that are one section, from counts `[spot, gene]` and `slide_codes` `[spot]` into `slides`."""
    signatures = spot_signatures(counts)
    return find_twins({slide: signatures[slide_codes == code] for code, slide in enumerate(slides)})


def _telling(signatures: np.ndarray) -> np.ndarray:
    """The distinct signatures of a section's spots with counts, sorted; none where they say little."""
    filled = signatures[signatures != 0]
    distinct = np.unique(filled)
    return distinct if len(filled) >= FEWEST and len(distinct) >= DISTINCT * len(filled) else distinct[:0]


def _in_common(sets: Sequence[np.ndarray]) -> Counter[tuple[int, int]]:
    """How many values two sets share, for every pair that shares any; each set is free of repeats."""
    values = np.concatenate([*sets, np.zeros(0, dtype=np.uint64)])
    owner = np.repeat(np.arange(len(sets)), [len(own) for own in sets])
    order = np.lexsort((owner, values))
    values, owner = values[order], owner[order]
    several = np.flatnonzero(np.diff(values) == 0)  # a thousand sections share few values, if any
    found: Counter[tuple[int, int]] = Counter()
    for run in np.split(several, np.flatnonzero(np.diff(several) > 1) + 1):
        if run.size:
            found.update(combinations(owner[run[0] : run[-1] + 2].tolist(), 2))
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit integers that scatters neighbours (the finaliser of splitmix64); 0 stays 0."""
    z = values * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _blocks(indptr: np.ndarray) -> Iterator[slice]:
    """Runs of rows with not many more than `_VALUES_AT_ONCE` stored values."""
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        stop = int(np.searchsorted(indptr, indptr[start] + _VALUES_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        yield slice(start, stop)
        start = stop
