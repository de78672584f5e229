"""Does a split, or a sampler of batches, fit? For ours, and for yours.

>>> from agl.data.splitting.splits import k_fold
>>> check_split(k_fold, k=3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agl import registry
from agl.data.splitting.audit import audit
from agl.data.splitting.splits import Split


def example_spots(*, patients: int = 4, slides: int = 2, spots_per_slide: int = 36) -> pd.DataFrame:
    """The spots table of a few patients with some slides each, spots on square lattices of pitch 100."""
    side = int(np.ceil(np.sqrt(spots_per_slide)))
    at = np.arange(spots_per_slide)
    parts = [
        pd.DataFrame(
            {"slide": f"{chr(65 + p)}{s}", "patient": chr(65 + p), "x": at % side * 100.0, "y": at // side * 100.0}
        )
        for p in range(patients)
        for s in range(slides)
    ]
    spots = pd.concat(parts, ignore_index=True)
    spots.insert(0, "barcode", [f"b{i}" for i in range(len(spots))])
    return spots


def check_split(
    make: Callable[..., Sequence[Split]], *, spots: pd.DataFrame | None = None, validates: bool = True, **options: Any
) -> None:
    """Assert the contract of a split: `make(spots, **options)` gives one `Split` a fold.

    No spot tests in two folds; folds have names of their own; the same spots test whatever the seed; the same seed
    gives the same folds; where a patient or slide is on both sides, the fold says that it is optimistic.

    Args:
        spots: the spots table; None is `example_spots()`.
        validates: whether every fold must have validation spots.
    """
    table = example_spots() if spots is None else spots
    before = table.copy()

    def folds(seed: int) -> list[Split]:
        given = {"seed": seed, "validation_fraction": 0.25, "validation_unit": "auto"}
        return list(make(table, **{k: v for k, v in given.items() if k in registry.parameters(make)}, **options))

    found, again, other = folds(0), folds(0), folds(1)
    assert found, "Expected one fold or more, received none."
    assert all(isinstance(split, Split) for split in found), "Expected agl.data.splitting.splits.Split for every fold."
    names = [split.name for split in found]
    assert len(set(names)) == len(names), f"Expected a name of its own for every fold, received {names}."
    tested = np.concatenate([split.test for split in found])
    assert len(np.unique(tested)) == len(tested), "Expected every spot to test in one fold at most, found some in two."
    for split, twin, cousin in zip(found, again, other, strict=True):
        _check_fold(split, table, validates)
        same = all(
            np.array_equal(getattr(split, part), getattr(twin, part)) for part in ("train", "validation", "test")
        )
        assert same, f"Expected the same spots twice from the same seed in fold {split.name!r}, received others."
        assert np.array_equal(split.test, cousin.test), (
            f"Expected the same test spots for every seed in fold {split.name!r}, received others: "
            "seeds are repetitions."
        )
    pd.testing.assert_frame_equal(before, table)


def _check_fold(split: Split, spots: pd.DataFrame, validates: bool) -> None:
    used = np.concatenate([split.train, split.validation, split.test])
    assert used.min() >= 0, f"Expected positions of spots in fold {split.name!r}, received {used.min()}."
    assert used.max() < len(spots), (
        f"Expected positions below {len(spots)} in fold {split.name!r}, received {used.max()}."
    )
    assert not validates or len(split.validation), f"Expected validation spots in fold {split.name!r}, found none."
    leaks = audit(spots, split)
    if leaks.patients or leaks.slides:
        shared = ", ".join(leaks.patients or leaks.slides)
        assert split.optimistic, f"Expected fold {split.name!r} to be optimistic, since {shared} is on both sides."


def check_sampler(sampler: Callable[..., Sequence[np.ndarray]], *, batch_size: int = 16, **options: Any) -> None:
    """Assert the contract of a sampler: `sampler(slides, batch_size, rng, **options)` gives the batches of an epoch.

    Positions in `slides`; every spot is seen; no batch of a single spot, which would rank nothing; the same generator
    gives the same batches, another one others, and nobody else's random numbers are used.
    """
    slides = np.repeat([0, 1, 2], [40, 23, 9])
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first, again, other = (sampler(slides, batch_size, np.random.default_rng(seed), **options) for seed in (0, 0, 1))
    assert (before == np.random.get_state()[1]).all(), "Expected draws from `rng` alone, found the global state moved."  # type: ignore[index]  # noqa: NPY002
    everything = np.concatenate(first)
    assert everything.min() >= 0, f"Expected positions of spots, received {everything.min()}."
    assert everything.max() < len(slides), f"Expected positions below {len(slides)}, received {everything.max()}."
    assert set(everything) == set(range(len(slides))), (
        "Expected every spot at least once in an epoch, some are missing."
    )
    assert min(map(len, first)) > 1, "Expected two spots or more in every batch, received one alone."
    assert _equal(first, again), "Expected the same batches from the same generator, received others."
    assert not _equal(first, other), "Expected other batches from another generator, received the same."


def _equal(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
