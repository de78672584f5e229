"""One section under two names is found whatever was done to the copy; neighbours and shallow sections are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from agl.data.dataset import open_dataset
from agl.data.example import example_folder
from agl.data.splitting import splits, twins
from agl.data.splitting.audit import audit, refuse_leaks
from agl.data.splitting.twins import Twins, find_twins, spot_signatures, twins_of
from agl.errors import UserError

SPOTS, GENES = 300, 400


def tissue(seed: int, spots: int = SPOTS, depth: float = 1.0) -> np.ndarray:
    """Counts `[spot, gene]` of a section; sections of one `seed` would be one tissue counted again."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(size=(spots, 3)) @ rng.normal(size=(3, GENES)) - 1.0)
    return np.random.default_rng([seed, 1]).poisson(depth * rate)


def pairs(*sections: np.ndarray) -> list[tuple[str, str]]:
    """Twins among sections called A, B, ..."""
    named = {chr(65 + i): spot_signatures(sparse.csr_matrix(counts)) for i, counts in enumerate(sections)}
    return [(pair.first, pair.second) for pair in find_twins(named)]


RNG = np.random.default_rng(7)
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda counts: counts,
    "spots shuffled": lambda counts: counts[RNG.permutation(len(counts))],
    "a few spots fewer": lambda counts: counts[RNG.permutation(len(counts))[:-20]],
    "a third of the spots": lambda counts: counts[:100],
    "genes in another order": lambda counts: counts[:, RNG.permutation(GENES)],
    "both": lambda counts: counts[RNG.permutation(len(counts))[:250]][:, RNG.permutation(GENES)],
    "some spots counted again": lambda counts: np.where(np.arange(SPOTS)[:, None] < 150, counts, tissue(99)),
    "shallow spots dropped": lambda counts: counts[counts.sum(1) > np.median(counts.sum(1))],
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_found(change: Callable[[np.ndarray], np.ndarray]) -> None:
    original = tissue(1)
    assert pairs(original, tissue(2), change(original), tissue(3)) == [("A", "C")]


def test_three_copies_are_three_pairs() -> None:
    assert pairs(tissue(1), tissue(1)[::-1], tissue(1)[5:]) == [("A", "B"), ("A", "C"), ("B", "C")]


def test_the_same_tissue_counted_again_is_no_copy() -> None:
    rng = np.random.default_rng(5)
    rate = np.exp(rng.normal(size=(SPOTS, 3)) @ rng.normal(size=(3, GENES)) - 1.0)
    assert pairs(rng.poisson(rate), rng.poisson(rate)) == []


@pytest.mark.parametrize("depth", [0.003, 0.01, 0.05, 0.2])
def test_shallow_sections_are_not_taken_for_each_other(depth: float) -> None:
    """Spots of a count or two, as in fine bins: many are equal by chance."""
    assert pairs(*(tissue(seed, spots=1000, depth=depth) for seed in range(4))) == []


def test_empty_and_tiny_sections_say_nothing() -> None:
    empty = np.zeros((50, GENES), dtype=int)
    assert pairs(empty, empty, tissue(1)[:4], tissue(1)[:4]) == []
    assert pairs(tissue(1)[:5], tissue(1)) == [("A", "B")]
    assert find_twins({}) == []


def test_signatures_by_plain_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums modulo 2^64 in Python's own integers, and the same in blocks of any size."""
    counts = tissue(4, spots=23)
    counts[[0, 7, 22]] = 0
    expected = []
    top = 1 << 64
    from agl.seeds import seeded

    weights = [int(w) * 2 + 1 for w in seeded(0, "twins").integers(0, 1 << 63, GENES, dtype=np.uint64)]

    def mixed(value: int) -> int:
        z = value * 0x9E3779B97F4A7C15 % top
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % top
        z = (z ^ z >> 27) * 0x94D049BB133111EB % top
        return z ^ z >> 31

    for row in counts.tolist():
        by_gene = sum(w * c for w, c in zip(weights, row, strict=True)) % top
        expected.append((by_gene, sum(mixed(c) for c in row) % top))
    for at_once in (1, 100, 1 << 22):
        monkeypatch.setattr(twins, "_VALUES_AT_ONCE", at_once)
        assert [tuple(map(int, row)) for row in spot_signatures(sparse.csr_matrix(counts))] == expected


def test_the_examples_sections_are_five(tmp_path) -> None:
    """Three are of one patient, near each other: they share no spot."""
    dataset = open_dataset(example_folder(), features="none", cache_dir=tmp_path)
    assert twins_of(dataset.counts, dataset.slide_codes, dataset.slide_names) == []
    again = sparse.vstack([dataset.counts, dataset.counts[dataset.slide_codes == 3][::-1]], format="csr")
    codes = np.concatenate([dataset.slide_codes, np.full(int((dataset.slide_codes == 3).sum()), 5)])
    assert twins_of(again, codes, [*dataset.slide_names, "new"]) == [Twins("C3", "new", 180, 180)]


# ---- in the audit of a split


@pytest.fixture
def spots() -> pd.DataFrame:
    at = np.arange(9)
    slides = [("a", "A"), ("b", "B"), ("b again", "B"), ("c", "C")]
    parts = [pd.DataFrame({"slide": s, "patient": p, "x": at % 3, "y": at // 3}) for s, p in slides]
    return pd.concat(parts, ignore_index=True)


def test_a_section_on_both_sides_is_refused(spots: pd.DataFrame) -> None:
    pair = Twins("a", "c", 9, 9)
    for fold in splits.leave_one_patient_out(spots):
        found = audit(spots, fold, [pair])
        if fold.name == "patient=B":  # both train
            assert found.twins == ()
            refuse_leaks(found)
            continue
        assert found.twins == (pair,)
        with pytest.raises(
            UserError, match=r"found 'a' and 'c' with the same counts in 9 of 9 spots in both training and test of fold"
        ):
            refuse_leaks(found, allow=["patient", "slide"])
        refuse_leaks(found, allow=["duplicate"])


def test_a_section_twice_on_one_side_passes(spots: pd.DataFrame) -> None:
    pair = Twins("b", "b again", 9, 9)
    assert not any(audit(spots, fold, [pair]).twins for fold in splits.leave_one_patient_out(spots))
    assert all(audit(spots, fold, [pair]).twins for fold in splits.spatial_blocks(spots, k=2))
    unused = replace(splits.leave_one_slide_out(spots)[1], train=np.arange(9), validation=np.arange(27, 36))
    assert audit(spots, unused, [pair]).twins == ()  # "b again" takes no part
