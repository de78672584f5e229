"""Quadratic forms and traces of kernels equal those of dense matrices, on and off a grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from agl.genes.smoothness import LENGTHS, Kernels


def dense(places):
    apart = cdist(places, places, "sqeuclidean")
    return [np.eye(len(places)), *(np.exp(-apart / (2 * length**2)) for length in LENGTHS)]


def square(rng):
    return np.array([(i, j) for i in range(9) for j in range(7)], dtype=float)[rng.permutation(63)[:50]]


def hexagons(rng):
    return np.array([(i * np.sqrt(3) / 2, j + i % 2 / 2) for i in range(8) for j in range(7)])


def scattered(rng):
    return rng.uniform(0, 9, (60, 2))


@pytest.mark.parametrize("layout", [square, hexagons, scattered])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_forms_and_traces_are_those_of_dense_matrices(layout, scale):
    rng = np.random.default_rng(0)
    coords = layout(rng)
    kernels = Kernels(scale * coords - 31.0)
    fine = 1 if layout is square else 2
    matrices = dense(kernels.cells / fine)
    maps = rng.standard_normal((len(coords), 4))
    expected = np.array([[x @ k @ x for k in matrices] for x in maps.T])
    np.testing.assert_allclose(kernels.forms(maps), expected, rtol=1e-4)
    basis = np.linalg.qr(np.column_stack([np.ones(len(coords)), rng.standard_normal((len(coords), 2))]))[0]
    keep = np.eye(len(coords)) - basis @ basis.T
    left = [keep @ k @ keep for k in matrices]
    traces = np.array([[np.sum(a * b) for b in left] for a in left])
    np.testing.assert_allclose(kernels.products(basis), traces, rtol=1e-6, atol=1e-6)


def test_the_raster_keeps_the_distances_of_a_grid():
    rng = np.random.default_rng(1)
    coords = square(rng)
    np.testing.assert_allclose(cdist(Kernels(coords * 7).cells, Kernels(coords * 7).cells), cdist(coords, coords))


def test_long_kernels_end_where_nothing_is_left():
    """On a slide longer than the longest kernel reaches, wrapping joins nothing that matters."""
    coords = np.array([(i, 0) for i in range(300)], dtype=float)
    maps = np.random.default_rng(2).standard_normal((300, 3)) + 1
    expected = np.array([[x @ k @ x for k in dense(coords)] for x in maps.T])
    np.testing.assert_allclose(Kernels(coords).forms(maps), expected, rtol=1e-3)


def test_spots_at_one_place_and_a_single_spot():
    maps = np.ones((3, 1))
    np.testing.assert_allclose(Kernels(np.zeros((3, 2))).forms(maps), [[3.0] + [9.0] * len(LENGTHS)], rtol=1e-6)
    np.testing.assert_allclose(Kernels(np.ones((1, 2))).forms(maps[:1]), np.ones((1, 1 + len(LENGTHS))), rtol=1e-6)
