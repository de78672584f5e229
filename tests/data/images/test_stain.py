"""Optical density and stain separation, against arithmetic and scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agl.data.images.stain import (
    optical_density,
    render,
    separate,
    stain_matrix,
    transmitted,
)

color = pytest.importorskip("skimage.color")


def every_gray_and_some_colours() -> np.ndarray:
    grays = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = np.random.default_rng(0).integers(0, 256, (4096, 3), dtype=np.uint8)
    return np.concatenate([grays, colours])[:, None]


def test_densities_are_those_of_scikit_image() -> None:
    pixels = every_gray_and_some_colours()
    pixels = pixels[(pixels > 0).all(axis=-1)][:, None]  # at 0 the two conventions floor differently
    ours = separate(torch.from_numpy(pixels).double(), stain_matrix(dtype=torch.float64), epsilon=1e-9)
    # rgb2hed divides natural logarithms by log(1e-6) and clips at 0; ours is base 10, so the ratio is 6.
    theirs = color.rgb2hed(pixels) * 6.0
    np.testing.assert_allclose(ours.clamp(min=0).numpy(), theirs, atol=1e-9)


def test_matrix_is_that_of_scikit_image() -> None:
    np.testing.assert_array_equal(stain_matrix(dtype=torch.float64).numpy(), color.rgb_from_hed)
    inverse = torch.linalg.inv(stain_matrix(dtype=torch.float64))
    np.testing.assert_allclose(inverse.numpy(), color.hed_from_rgb, atol=1e-12)


def test_white_and_black_by_hand() -> None:
    od = optical_density(torch.tensor([255, 0, 127], dtype=torch.uint8))
    np.testing.assert_allclose(od, [0.0, np.log10(256.0), np.log10(256.0 / 128.0)], atol=1e-6)
    assert od.dtype == torch.float32


def test_one_unit_of_hematoxylin_absorbs_its_own_vector() -> None:
    grey = render(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))
    expected = 256.0 * 10.0 ** -np.array([[0.65, 0.70, 0.29]]) - 1.0
    np.testing.assert_allclose(grey, expected, rtol=1e-6)


@given(st.lists(st.floats(0, 2), min_size=3, max_size=3))
def test_separation_undoes_rendering(density: list[float]) -> None:
    given_density = torch.tensor([density], dtype=torch.float64)
    for matrix in (stain_matrix(dtype=torch.float64), stain_matrix((0.7, 0.6, 0.3), (0.4, 0.8, 0.4))):
        back = separate(render(given_density, matrix.double()), matrix.double())
        np.testing.assert_allclose(back, given_density, atol=1e-9)


def test_rendering_undoes_separation_for_every_grey_level_in_float32() -> None:
    pixels = torch.from_numpy(every_gray_and_some_colours())
    assert torch.equal(render(separate(pixels)).round().clamp(0, 255).to(torch.uint8), pixels)
    assert transmitted(optical_density(pixels)).sub(pixels).abs().max() < 1e-3


def test_given_vectors_get_a_unit_normal_as_residual() -> None:
    matrix = stain_matrix((0.7, 0.6, 0.3), (0.4, 0.8, 0.4), dtype=torch.float64).numpy()
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1.0)
    np.testing.assert_allclose(matrix[2] @ matrix[:2].T, 0.0, atol=1e-12)


def test_rendering_is_differentiable() -> None:
    densities = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    matrix = stain_matrix(dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(render, (densities, matrix))
    images = (torch.rand(2, 3, dtype=torch.float64) * 200 + 20).requires_grad_()
    assert torch.autograd.gradcheck(separate, (images, matrix))


def test_bad_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="received one"):
        stain_matrix((1, 0, 0))
    with pytest.raises(ValueError, match="two different stain vectors"):
        stain_matrix((1, 0, 0), (2, 0, 0))
