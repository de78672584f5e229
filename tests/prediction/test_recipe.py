"""Are a slide's inputs like those in training? Said where they are shifted, refused where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agl.errors import UserError
from agl.prediction.recipe import Recipe, moments

WIDTH = 64
LEVEL = np.random.default_rng(0).normal(0, 3, WIDTH)
SPREAD = np.random.default_rng(1).uniform(0.2, 2, WIDTH)
OTHER_LEVEL, OTHER_SPREAD = (
    np.random.default_rng(3).normal(0, 1, WIDTH),
    np.random.default_rng(4).uniform(0.2, 2, WIDTH),
)


def features(seed: int = 2, n: int = 200) -> np.ndarray:
    return LEVEL + SPREAD * np.random.default_rng(seed).normal(size=(n, WIDTH))


def recipe_of(values: np.ndarray) -> Recipe:
    mean, sd = moments(values)
    return Recipe((("uni", values.shape[1]),), (8,), "train", None, tuple(mean.tolist()), tuple(sd.tolist()))


def test_moments_are_numpys_over_several_blocks() -> None:
    values = np.random.default_rng(0).normal(5, 2, (9_000, 3)).astype(np.float16)
    mean, sd = moments(values)
    np.testing.assert_allclose(mean, values.astype(float).mean(0))
    np.testing.assert_allclose(sd, values.astype(float).std(0))


def test_a_recipe_is_read_as_it_was_written() -> None:
    recipe = recipe_of(features())
    assert "places" not in recipe.to_dict()
    for each in (recipe, replace(recipe, places=True)):
        assert Recipe.from_dict(each.to_dict()) == each
    assert replace(recipe, places=True).surroundings.width(WIDTH) == 2 * WIDTH + 2


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-1.5, 1.5), stretch=st.floats(0.5, 2), seed=st.integers(3, 99))
def test_what_slides_differ_by_is_not_mentioned(shift: float, stretch: float, seed: int) -> None:
    moved = LEVEL + stretch * (features(seed) - LEVEL) + shift * SPREAD
    assert recipe_of(features()).compare("S", moved) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x + 3 * SPREAD, "3.0 training spreads away"),
        (lambda x: LEVEL + 4 * (x - LEVEL), "vary 4 times"),
        (lambda x: np.where(np.arange(len(x))[:, None] < 7, 0, x), "7 of 200 spots have features that are all 0"),
    ],
)
def test_what_is_odd_is_said(change, said: str) -> None:
    assert said in " ".join(recipe_of(features()).compare("S", change(features(5))))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 255,
        lambda x: x / 255,
        lambda x: x + 10 * SPREAD,
        lambda x: x[:, np.random.default_rng(8).permutation(WIDTH)],
        lambda x: np.zeros_like(x),
        lambda x: np.repeat(x[:1], len(x), 0),
        lambda x: np.random.default_rng(7).normal(0, 1, x.shape) * OTHER_SPREAD + OTHER_LEVEL,
    ],
    ids=["x255", "/255", "shifted", "columns in another order", "zeros", "one spot", "another encoder"],
)
def test_what_cannot_be_is_refused(change) -> None:
    with pytest.raises(UserError, match=r"another encoder, another scale|features that vary"):
        recipe_of(features()).compare("S", change(features(5)))


def test_one_spot_and_constant_columns_are_no_reason() -> None:
    values = features()
    values[:, :3] = 1.0
    recipe = recipe_of(values)
    assert recipe.compare("S", features(4)[:1]) == []
    other = features(6)
    other[:, :3] = 1.0
    assert recipe.compare("S", other) == []


def test_another_width_is_refused() -> None:
    with pytest.raises(UserError, match="Expected 64 features of 'uni' as in training, received 8"):
        recipe_of(features()).check_widths("S", [8])
