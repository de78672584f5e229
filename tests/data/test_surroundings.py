"""Neighbours by hand on lattices, against brute force, under turns; features per slide; what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from agl.data import surroundings
from agl.data.surroundings import TIE, Surroundings, nearest, surround
from agl.errors import UserError


def square(n: int, pitch: float = 1.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) * pitch


def hexagons(n: int, pitch: float = 100.0) -> np.ndarray:
    row, col = np.divmod(np.arange(n * n), n)
    return np.stack([pitch * (col + row % 2 / 2), pitch * row * math.sqrt(3) / 2], axis=1)


def brute_force(own: np.ndarray, xy: np.ndarray, k: int) -> np.ndarray:
    """Plain Python: sort all others by distance, take those up to the k-th one's."""
    n = len(xy)
    apart = [[math.dist(xy[i], xy[j]) for j in range(n)] for i in range(n)]
    nearest_places = [min((d for d in apart[i] if d > 0), default=math.inf) for i in range(n)]
    _, one_a_place = np.unique(xy, axis=0, return_index=True)
    pitch = float(np.median([nearest_places[i] for i in one_a_place]))
    out = []
    for i in range(n):
        others = sorted((apart[i][j], j) for j in range(n) if j != i)
        limit = others[min(k, n - 1) - 1][0] + TIE * pitch
        chosen = [j for d, j in others if d <= limit]
        out.append(sum(own[j].astype(float) for j in chosen) / len(chosen))
    return np.array(out)


def test_a_square_by_hand():
    """Spots 0 1 2 / 3 4 5 / 6 7 8: the middle has eight around it, a corner two next to it."""
    own = np.arange(9.0)[:, None] ** 2
    table = surround(own, square(3), Surroundings.of([2, 8]))
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[:, 0], own[:, 0])
    assert table[0, 1] == (1 + 9) / 2  # the corner's two: 1 and 3
    assert table[1, 1] == pytest.approx((0 + 4 + 16) / 3)  # at the edge three are equally near: all of 0, 2, 4
    assert table[4, 1] == (1 + 9 + 25 + 49) / 4
    np.testing.assert_allclose(table[:, 2], (own.sum() - own[:, 0]) / 8)


def test_a_hexagon_by_hand():
    """The middle of seven spots has six neighbours; a tip has three: the middle and the two beside it."""
    turns = np.pi / 3 * np.arange(6)
    xy = np.concatenate([[[0.0, 0.0]], np.stack([np.cos(turns), np.sin(turns)], axis=1)])
    own = np.array([10.0, 1, 2, 3, 4, 5, 6])[:, None]
    table = surround(own, xy, Surroundings.of([3]))
    assert table[0, 1] == pytest.approx(21 / 6)
    assert table[1, 1] == pytest.approx((10 + 2 + 6) / 3)
    assert table[4, 1] == pytest.approx((10 + 3 + 5) / 3)


@pytest.mark.parametrize(("lattice", "eight", "twenty_four"), [(square(15), 8, 24), (hexagons(15), 12, 30)])
def test_whole_rings_on_arrays_with_rounded_pixels(lattice, eight, twenty_four):
    """Pixels are whole numbers, so equal distances differ by rounding: rings must not be cut open by it."""
    xy = np.round(lattice * (137.3 / (1 if lattice[1, 0] == 1 else 100)))
    middle = 7 * 15 + 7
    assert nearest(xy, 8)[middle].nnz == eight
    assert nearest(xy, 24)[middle].nnz == twenty_four


@pytest.mark.parametrize("k", [1, 3, 8, 200])
@pytest.mark.parametrize("kind", ["square", "hexagons", "scattered", "in pairs"])
def test_as_by_brute_force(kind, k, monkeypatch):
    rng = np.random.default_rng(3)
    xy = {
        "square": square(9)[rng.permutation(81)[:60]],
        "hexagons": hexagons(8),
        "scattered": rng.normal(size=(50, 2)) * 1000,
        "in pairs": np.repeat(rng.normal(size=(20, 2)), 2, axis=0),
    }[kind]
    own = rng.normal(size=(len(xy), 3)).astype(np.float32)
    expected = brute_force(own, xy, k)
    np.testing.assert_allclose(surround(own, xy, Surroundings.of([k]))[:, 3:], expected, rtol=1e-6, atol=1e-7)
    monkeypatch.setattr(surroundings, "_SPOTS_AT_ONCE", 7)  # many blocks, neighbours across their borders
    np.testing.assert_allclose(surround(own, xy, Surroundings.of([k]))[:, 3:], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(nearest(xy, k) @ own.astype(float), expected, rtol=1e-6, atol=1e-7)


def test_wide_ties_are_all_found():
    """A ring of 60 spots round one: asked for one neighbour, the middle takes all 60."""
    turns = 2 * np.pi / 60 * np.arange(60)
    xy = np.concatenate([[[0.0, 0.0]], 10 * np.stack([np.cos(turns), np.sin(turns)], axis=1)])
    assert nearest(xy, 1)[0].nnz == 60
    assert nearest(xy, 1)[1].nnz == 2


places = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=40, unique=True)


@settings(max_examples=60, deadline=None)
@given(places, st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0, 6.3))
def test_order_turns_and_mirrors_change_nothing(where, k, seed, angle):
    xy = np.array(where, dtype=float) * 50.0
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(len(xy), 2)).astype(np.float32)
    wanted = Surroundings.of([k])
    table = surround(own, xy, wanted)
    order = rng.permutation(len(xy))
    np.testing.assert_allclose(surround(own[order], xy[order], wanted), table[order], rtol=1e-6, atol=1e-6)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for other in (xy @ turn.T + [1e5, -3e4], xy * [-1, 1], xy[:, ::-1], xy / 7):
        np.testing.assert_allclose(surround(own, other, wanted), table, rtol=1e-6, atol=1e-6)


def test_normalised_inside_the_slide_as_scikit_learn_does(monkeypatch):
    rng = np.random.default_rng(0)
    own = rng.normal(3, 5, size=(81, 4)).astype(np.float32)
    own[:, 2] = 0.1  # does not vary
    plain = surround(own, square(9), Surroundings.of([8]))
    table = surround(own, square(9), Surroundings.of([8], "slide"))
    expected = StandardScaler().fit_transform(plain.astype(float))
    expected[:, [2, 6]] = 0
    np.testing.assert_allclose(table, expected, atol=2e-6)
    monkeypatch.setattr(surroundings, "_SPOTS_AT_ONCE", 10)
    np.testing.assert_allclose(surround(own, square(9), Surroundings.of([8], "slide")), table, atol=2e-6)


def test_without_context_places_are_not_read():
    own = np.array([[1.0], [3.0]])
    assert surround(own, np.full((2, 2), np.nan), Surroundings.of([], "slide")).tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize(
    ("xy", "message"),
    [
        (np.array([[0.0, 0.0]]), "Expected at least two spots in slide 'S1'"),
        (np.array([[0.0, 0.0], [np.nan, 1.0]]), "Expected finite coordinates in slide 'S1'.*received 1 spots without"),
        (np.zeros((5, 2)), "Expected spots at different places in slide 'S1'.*all 5 at one"),
        (np.repeat(square(2), 900, axis=0), "Expected spots at places of their own in slide 'S1'"),
    ],
)
def test_slides_without_neighbours_are_refused(xy, message):
    with pytest.raises(UserError, match=message):
        surround(np.zeros((len(xy), 1)), xy, Surroundings.of([1]), slide="S1")


@pytest.mark.parametrize("context", [[0], [8, 8], [1.5], [True], ["8"]])
def test_wrong_numbers_of_neighbours(context):
    with pytest.raises(UserError, match="Expected different numbers of nearest spots from 1"):
        Surroundings.of(context)


def test_wrong_normalisation():
    with pytest.raises(UserError, match=r"Expected normalise as one of train, slide, received 'slides'.*Did you mean"):
        Surroundings.of([], "slides")


@pytest.mark.parametrize("normalise", ["train", "slide"])
def test_places_are_steps_from_the_middle_of_the_slide(normalise: str):
    """On a lattice of pitch 50: -1, 0 and 1 in both directions, behind all features, whatever these are scaled to."""
    own, xy = np.arange(9.0)[:, None] ** 2, 50 * square(3) + 7
    with_places = Surroundings.of([2], normalise, places=True)
    table = surround(own, xy, with_places)
    assert table.shape == (9, with_places.width(1)) == (9, 4)
    np.testing.assert_allclose(table[:, 2:], square(3) - 1, atol=1e-6)
    np.testing.assert_array_equal(table[:, :2], surround(own, xy, Surroundings.of([2], normalise)))
    with pytest.raises(UserError, match=r"finite coordinates.*set data.places=false"):
        surround(own, np.where(xy > 100, np.nan, xy), Surroundings.of(places=True))
