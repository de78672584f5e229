"""Samplers: every spot once, slides kept together, the same draws from the same generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agl.data.batches import balanced, grouped, shuffled

slide_columns = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)


@given(slides=slide_columns, batch_size=st.integers(2, 32), seed=st.integers(0, 9))
@pytest.mark.parametrize("sampler", [shuffled, grouped])
def test_every_spot_comes_exactly_once(sampler, slides: np.ndarray, batch_size: int, seed: int) -> None:
    batches = sampler(slides, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(slides)))


@given(slides=slide_columns, batch_size=st.integers(2, 32))
def test_shuffled_batches_are_even_and_not_too_large(slides: np.ndarray, batch_size: int) -> None:
    sizes = [len(batch) for batch in shuffled(slides, batch_size, np.random.default_rng(0))]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(slides=slide_columns, batch_size=st.integers(4, 32), per=st.integers(1, 4))
def test_grouped_batches_hold_few_slides(slides: np.ndarray, batch_size: int, per: int) -> None:
    batches = grouped(slides, batch_size, np.random.default_rng(0), slides_per_batch=per)
    assert all(len(np.unique(slides[batch])) <= per for batch in batches)


@given(slides=slide_columns, batch_size=st.integers(5, 32))
def test_balanced_batches_hold_equally_many_of_every_slide_and_every_spot_comes(
    slides: np.ndarray, batch_size: int
) -> None:
    batches = balanced(slides, batch_size, np.random.default_rng(0))
    for batch in batches:
        assert len(np.unique(np.unique(slides[batch], return_counts=True)[1])) == 1
    assert set(np.concatenate(batches).tolist()) == set(range(len(slides)))


@pytest.mark.parametrize("sampler", [shuffled, grouped, balanced])
def test_same_generator_same_batches(sampler) -> None:
    slides = np.repeat([0, 1, 2], [5, 30, 12])
    first = sampler(slides, 8, np.random.default_rng(3))
    again = sampler(slides, 8, np.random.default_rng(3))
    other = sampler(slides, 8, np.random.default_rng(4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
