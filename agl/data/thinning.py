"""Less data on purpose: fewer patients to train on, shallower counts. How much would more be worth?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.slides import Dataset
from agl.data.splitting.holdout import hold_out, patient_or_slide
from agl.data.splitting.splits import Split
from agl.errors import UserError
from agl.seeds import seeded


def thinned(
    counts: sparse.csr_matrix, library_size: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """What sequencing a share as deep would have seen: every count is drawn from Binomial(count, share).

    A Poisson count of rate m becomes one of rate share m, so nothing else about it changes. The counts of genes that
    are not in the table, but in the library size, are thinned as well.

    Args:
        counts: raw `[spot, gene]`.
        library_size: `[spot]` totals over all genes.

    >>> counts, library = thinned(sparse.csr_matrix([[4, 0]]), np.array([10]), 1.0, np.random.default_rng(0))
    >>> counts.toarray().tolist(), library.tolist()
    ([[4, 0]], [10])
    """
    table = sparse.csr_matrix(counts)
    kept = rng.binomial(table.data, share).astype(table.data.dtype)
    rest = np.maximum(np.asarray(library_size) - np.asarray(table.sum(1)).ravel(), 0).astype(np.int64)
    found = sparse.csr_matrix((kept, table.indices.copy(), table.indptr.copy()), shape=table.shape)
    library = np.asarray(found.sum(1)).ravel() + rng.binomial(rest, share)
    found.eliminate_zeros()
    return found, library.astype(np.asarray(library_size).dtype)


def thin(dataset: Dataset, seen: np.ndarray, share: float, test_share: float, seed: int) -> Dataset:
    """A dataset whose spots on the training side are thinned to one share, all others to another, drawn apart.

    A spot's draw depends on no split: every fold that trains on it sees the same counts.

    Args:
        seen: positions of the training and validation spots.
    """
    if share == test_share == 1:
        return dataset
    inside = np.zeros(len(dataset), dtype=bool)
    inside[seen] = True
    parts, library = [], np.asarray(dataset.library_size).copy()
    for word, mine, each in (("training", inside, share), ("test", ~inside, test_share)):
        if each == 1:
            parts.append(sparse.csr_matrix(dataset.counts)[mine])
            continue
        table, totals = thinned(dataset.counts, dataset.library_size, each, seeded(seed, "thin", word))
        parts.append(table[mine])
        library[mine] = totals[mine]
    order = np.argsort(np.concatenate([np.flatnonzero(inside), np.flatnonzero(~inside)]))
    return replace(dataset, counts=sparse.vstack(parts, format="csr")[order], library_size=library)


def fewer_patients(split: Split, spots: pd.DataFrame, n: int, seed: int, *, fraction: float, unit: str) -> Split:
    """A split whose training side has n patients: the first of all in a drawn order, so that n + 1 holds them, too.

    The validation spots, where there were any, are held out anew among those that are left; test spots stay.

    Args:
        spots: of the dataset; slides of unknown patients count as one patient each.
        fraction, unit: of the validation spots, see `agl.data.splitting.holdout.hold_out`.

    Raises:
        UserError: the training side has fewer than n.
    """
    owners = patient_or_slide(spots).to_numpy(str)
    seen = np.union1d(split.train, split.validation)
    names = np.unique(owners)
    present = set(owners[seen])
    order = [str(name) for name in seeded(seed, "patients").permutation(names) if name in present]
    if n > len(order):
        raise UserError(
            f"Expected data.patients of at most {len(order)}, the patients on the training side of {split.name}, "
            f"received {n}."
        )
    train = seen[np.isin(owners[seen], order[:n])]
    validation = split.validation[:0]
    if len(split.validation):
        train, validation = hold_out(spots, train, fraction, unit, seeded(seed, "patients", "validation"))
    return replace(split, train=train, validation=validation)
