"""The low-rank trunk: against SciPy's decompositions, scikit-learn's ridge, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.linear_model import Ridge

from agl.convex.low_rank import Coordinates, Trunk, refit_squares
from agl.convex.projector import Spectrum, projector
from agl.errors import UserError

SPOTS, FEATURES, GENES = 60, 8, 15


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centred features, centred targets, slides of unequal size."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SPOTS, FEATURES)) @ rng.normal(size=(FEATURES, FEATURES))
    y = x @ rng.normal(size=(FEATURES, GENES)) + 3 * rng.normal(size=(SPOTS, GENES))
    slides = np.repeat([4, 9, 2], [30, 18, 12])
    return torch.tensor(x - x.mean(0)), torch.tensor(y - y.mean(0)), torch.tensor(slides)


def ridge(x: torch.Tensor, y: torch.Tensor, penalty: float = 5.0) -> torch.Tensor:
    return torch.tensor(Ridge(alpha=penalty, fit_intercept=False).fit(x.numpy(), y.numpy()).coef_.T)


def test_directions_are_the_left_singular_vectors_of_scaled_fitted_values(data) -> None:
    x, y, _ = data
    heads, weights = ridge(x, y), torch.rand(GENES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    trunk = Trunk(Coordinates.of(x), heads)
    spectrum = trunk.spectrum(weights)
    fitted = (x @ heads).numpy()
    scaled = fitted / fitted.std(0) / SPOTS**0.5 * weights.sqrt().numpy()
    left, values, _ = linalg.svd(scaled, full_matrices=False)
    np.testing.assert_allclose(spectrum.values, values[:FEATURES] ** 2, rtol=1e-10)
    for rank in (1, 3, 7):
        z = (x @ trunk.coordinates_of(spectrum, rank)).numpy()
        np.testing.assert_allclose(z.T @ z, np.eye(rank), atol=1e-10)
        np.testing.assert_allclose(z @ z.T, left[:, :rank] @ left[:, :rank].T, atol=1e-10)
        cut = trunk.cut(spectrum, [rank])[0]
        np.testing.assert_allclose(x @ cut, left[:, :rank] @ left[:, :rank].T @ fitted, atol=1e-9)


def test_all_directions_are_the_heads_themselves(data) -> None:
    x, y, slides = data
    heads = ridge(x, y)
    for of in (Coordinates.of(x), Coordinates.of(x, slides)):
        trunk = Trunk(of, heads)
        cut = trunk.cut(trunk.spectrum(torch.ones(GENES)), [2, FEATURES], genes=slice(0, 4))
        np.testing.assert_allclose(cut[1], heads[:, :4], atol=1e-10)
        assert (cut[0] - heads[:, :4]).abs().max() > 0.1


def test_features_that_repeat_or_do_not_vary_take_no_direction(data) -> None:
    x, y, _ = data
    wide = torch.cat([x, x[:, :3], torch.zeros(SPOTS, 2), x @ torch.ones(FEATURES, 1).double()], 1)
    narrow, broad = Coordinates.of(x), Coordinates.of(wide)
    assert len(narrow) == len(broad) == FEATURES
    heads = ridge(wide, y)  # the minimum-norm heads of the same fit
    trunk = Trunk(broad, heads)
    cut = trunk.cut(trunk.spectrum(torch.ones(GENES)), [3, FEATURES])
    left = linalg.svd((wide @ heads / (wide @ heads).norm(dim=0)).numpy(), full_matrices=False)[0][:, :3]
    np.testing.assert_allclose(wide @ cut[0], left @ left.T @ (wide @ heads).numpy(), atol=1e-9)
    np.testing.assert_allclose(cut[1], heads, atol=1e-9)


def test_more_features_than_spots(data) -> None:
    rng = np.random.default_rng(2)
    x = torch.tensor(rng.normal(size=(12, 30)))
    x = x - x.mean(0)
    of = Coordinates.of(x)
    assert len(of) == 11
    np.testing.assert_allclose(of.back @ of.into, np.linalg.pinv(x.numpy()) @ x.numpy(), atol=1e-10)


def test_within_slides_a_shift_of_a_slide_changes_no_vote(data) -> None:
    x, y, slides = data
    heads = ridge(x, y)
    shifted = x + 10 * (slides == 9)[:, None] * torch.linspace(-1, 1, FEATURES)
    votes = [Trunk(Coordinates.of(f, slides), heads).spectrum(torch.ones(GENES)).values for f in (x, shifted)]
    torch.testing.assert_close(*votes)
    pooled = Trunk(Coordinates.of(shifted), heads).spectrum(torch.ones(GENES)).values
    assert pooled[0] > 1.3 * votes[0][0]  # pooled, the shift is what all genes seem to share


def test_refitting_is_ridge_on_the_features_when_nothing_is_cut_and_generalised_ridge_below(data) -> None:
    x, y, _ = data
    heads = ridge(x, y)
    trunk = Trunk(Coordinates.of(x), heads)
    spectrum = trunk.spectrum(torch.ones(GENES))
    np.testing.assert_allclose(refit_squares(x, y, trunk.coordinates_of(spectrum, FEATURES), 5.0), heads, atol=1e-9)
    within = trunk.coordinates_of(spectrum, 3)
    refitted = refit_squares(x, y, within, 5.0)
    # The penalty |within a|^2 is |L' a|^2 with L L' = within'within: plain ridge on z L'^-1.
    upper = np.linalg.cholesky((within.T @ within).numpy()).T
    plain = Ridge(alpha=5.0, fit_intercept=False).fit((x @ within).numpy() @ np.linalg.inv(upper), y.numpy())
    np.testing.assert_allclose(refitted, within.numpy() @ np.linalg.inv(upper) @ plain.coef_.T, atol=1e-9)


def test_a_gene_without_a_head_has_no_vote(data) -> None:
    x, y, _ = data
    heads = ridge(x, y)
    heads[:, 3] = 0
    trunk = Trunk(Coordinates.of(x), heads)
    weights = torch.ones(GENES, dtype=torch.float64)
    assert float(trunk.moment(weights).trace()) == pytest.approx(GENES - 1)
    weights[3] = 0
    torch.testing.assert_close(trunk.moment(weights), trunk.moment(torch.ones(GENES)))


@pytest.mark.parametrize("ranks", [3, (1, 3, 5)])
def test_derivative_of_the_projector_agrees_with_finite_differences(ranks) -> None:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(7, 9, generator=generator, dtype=torch.float64)
    direction = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    weights = torch.rand(9, generator=generator, dtype=torch.float64).requires_grad_()

    def value(w: torch.Tensor) -> torch.Tensor:
        return (projector((a * w) @ a.T, ranks).matrix * direction).sum().tanh()

    assert torch.autograd.gradcheck(value, weights, eps=1e-6, atol=1e-8, rtol=1e-7)


def test_equal_eigenvalues_on_one_side_of_the_cut_do_no_harm() -> None:
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0]
    matrix = ((turn * torch.tensor([3.0, 3.0, 3.0, 1.0, 1.0, 0.0])) @ turn.T).requires_grad_()
    direction = torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (projector(matrix, 3).matrix * direction).sum().backward()
    move = turn @ torch.diag(torch.arange(6.0).double()) @ turn.T + direction + direction.T
    step = 1e-5

    def at(t: float) -> float:  # SciPy's projector, moved along a line
        return float((spectral(matrix.detach().numpy() + t * move.numpy(), 3) * direction.numpy()).sum())

    found = float((matrix.grad * move).sum())
    assert np.isfinite(found)
    assert found == pytest.approx((at(step) - at(-step)) / (2 * step), rel=1e-6)


def spectral(matrix: np.ndarray, rank: int) -> np.ndarray:
    vectors = linalg.eigh(matrix)[1][:, ::-1][:, :rank]
    return vectors @ vectors.T


def test_a_rank_without_a_gap_is_widened_or_refused() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    found = projector(matrix, (1, 2, 4))
    assert found.ranks_used == (1, 4, 4)
    assert found.widened
    np.testing.assert_allclose(found.matrix.diagonal(), [1, 2 / 3, 2 / 3, 2 / 3, 0, 0, 0])
    assert projector(matrix, 6).ranks_used == (7,)  # the rest of the spectrum is 0: nothing to tell apart
    assert not projector(matrix, (1, 5, 40)).widened  # more ranks than directions: all of them
    with pytest.raises(UserError, match="before rank 4"):
        projector(matrix, 2, widen=False)
    np.testing.assert_allclose(Spectrum.of(matrix).gaps, np.array([1, 0, 0, 1, 1, 0]) / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Coordinates.of(torch.ones(5, 2)), "constant"),
        (lambda: Coordinates.of(torch.tensor([[0.0], [torch.nan]])), "finite"),
        (lambda: Trunk(Coordinates.of(torch.eye(3)), torch.ones(2, 4)), "heads"),
        (lambda: projector(torch.ones(2, 3), 1), "square"),
        (lambda: projector(torch.eye(3), []), "ranks"),
        (lambda: projector(torch.eye(3), 0), "ranks"),
        (lambda: refit_squares(torch.eye(3), torch.eye(2), torch.eye(3), 1.0), "same spots"),
        (lambda: refit_squares(torch.eye(3), torch.eye(3), torch.eye(3), -1.0), "penalty"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
