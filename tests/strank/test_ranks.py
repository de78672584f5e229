"""Ranks against SciPy's, wherever ties, slides, dtypes and close values could break them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata, spearmanr

from strank import ranks, spearman
from strank.ranks import average_ranks, inversions


def scipy_ranks(values: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """SciPy's ranks, one slide and one gene at a time."""
    out = np.empty(values.shape)
    for slide in np.unique(slides):
        for gene in range(values.shape[1]):
            out[slides == slide, gene] = rankdata(values[slides == slide, gene])
    return out


floats = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from([0.0, -0.0, 1.0, 1.0, 5e-324])
ties = st.integers(-3, 3).map(float)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n=st.integers(1, 40), genes=st.integers(1, 4))
def test_equals_scipy(data: st.DataObject, n: int, genes: int) -> None:
    elements = data.draw(st.sampled_from([floats, ties]))
    values = data.draw(hnp.arrays(np.float64, (n, genes), elements=elements))
    slides = data.draw(hnp.arrays(np.int64, n, elements=st.sampled_from([-5, 0, 2**40, 7])))
    with np.errstate(all="ignore"):
        expected = scipy_ranks(values, slides)
    np.testing.assert_array_equal(average_ranks(torch.from_numpy(values), torch.from_numpy(slides)).numpy(), expected)
    np.testing.assert_array_equal(
        average_ranks(torch.from_numpy(values)).numpy(), scipy_ranks(values, np.zeros(n, dtype=int))
    )


def test_half_a_million_spots_of_a_slide_are_ranked_exactly() -> None:
    """Bins of Visium HD: nearly all counts tied, sums of squares beyond what float32 holds; SciPy to the last bit."""
    n = 500_000
    rng = np.random.default_rng(0)
    counts = rng.poisson([0.02, 3.0], (n, 2))
    scores = rng.normal(size=(n, 2)).round(3)
    slides = torch.from_numpy(np.arange(n + 7) // n)  # a slide of seven beside
    both = [torch.from_numpy(np.concatenate([table, table[:7]])) for table in (counts, scores)]
    for table, found in zip((counts, scores), (average_ranks(table, slides) for table in both), strict=True):
        np.testing.assert_array_equal(found[:n].numpy(), rankdata(table, axis=0))
    rho = spearman(both[1], both[0], slides=slides, per_slide=True)[0]
    expected = [spearmanr(scores[:, gene], counts[:, gene]).statistic for gene in range(2)]
    np.testing.assert_allclose(rho.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool])
def test_every_dtype(dtype: torch.dtype) -> None:
    values = torch.randint(0, 2 if dtype == torch.bool else 9, (50, 3), generator=torch.Generator().manual_seed(0))
    expected = scipy_ranks(values.numpy(), np.zeros(50, dtype=int))
    np.testing.assert_array_equal(average_ranks(values.to(dtype)).numpy(), expected)


def test_values_closer_than_the_sorted_key_can_tell() -> None:
    # 1 + i * eps differ in bits that the packed key drops, so this goes through the full sort; 0.5 everywhere else.
    n = 300
    order = np.random.default_rng(0).permutation(n)
    values = np.full((n, 3), 0.5)
    values[:, 1] = 1.0 + order * np.finfo(np.float64).eps
    slides = np.arange(n) % 4
    np.testing.assert_array_equal(
        average_ranks(torch.from_numpy(values), torch.from_numpy(slides)).numpy(), scipy_ranks(values, slides)
    )


def test_the_full_sort_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    full = ranks._sort_in_full
    monkeypatch.setattr(ranks, "_sort_in_full", lambda bits, segments: calls.append(len(bits)) or full(bits, segments))
    average_ranks(torch.rand(200, 2, generator=torch.Generator().manual_seed(0)))  # float32 always fits the key
    assert calls == []
    average_ranks(1 + torch.arange(200).flip(0)[:, None].double() * torch.finfo(torch.float64).eps)
    assert calls == [1]


def test_many_ties_many_slides_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values, slides = rng.poisson(0.3, (5000, 7)), rng.integers(0, 300, 5000)
    expected = scipy_ranks(values, slides)
    for chunk in (1, 12_000, 1 << 20):  # one gene at a time, two, all
        monkeypatch.setattr(ranks, "CHUNK", chunk)
        found = average_ranks(torch.from_numpy(values), torch.from_numpy(slides))
        np.testing.assert_array_equal(found.numpy(), expected)


def test_nan_spoils_its_slide_and_gene_only() -> None:
    values = torch.tensor([[1.0, 1.0], [torch.nan, 2.0], [3.0, 3.0], [2.0, 1.0]])
    found = average_ranks(values, torch.tensor([0, 0, 1, 1]))
    np.testing.assert_array_equal(found.numpy(), [[np.nan, 1], [np.nan, 2], [2, 2], [1, 1]])


def test_empty_tables() -> None:
    assert average_ranks(torch.empty(0, 3)).shape == (0, 3)
    assert average_ranks(torch.empty(0, 3), torch.empty(0, dtype=torch.long)).shape == (0, 3)
    assert average_ranks(torch.empty(4, 0)).shape == (4, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_inversions_against_all_pairs(codes: list[int]) -> None:
    pairs = sum(codes[i] > codes[j] for j in range(len(codes)) for i in range(j))
    assert int(inversions(torch.tensor([codes])).sum()) == pairs


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"\[spot, gene\], received \[3\]"):
        average_ranks(torch.ones(3))
    with pytest.raises(TypeError, match=r"received torch\.complex64"):
        average_ranks(torch.ones(3, 1, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"integer slide codes, received torch\.float32"):
        average_ranks(torch.ones(3, 1), torch.ones(3))
    with pytest.raises(ValueError, match=r"one slide code a spot, \[3\], received \[2\]"):
        average_ranks(torch.ones(3, 1), torch.ones(2, dtype=torch.long))
    for beyond in (2**53 + 1, -(2**53) - 1):
        with pytest.raises(ValueError, match="larger integers: float64 cannot tell them apart"):
            average_ranks(torch.tensor([[beyond], [0]]))
