"""The optimum, beside scikit-learn and a plain SciPy minimisation gene by gene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import PoissonRegressor, Ridge

import strank
from agl.convex.heads import solve_path
from agl.convex.losses import default_penalties

Loss = Callable[..., torch.Tensor]


def standard(x: np.ndarray) -> np.ndarray:
    """In units of its spread, constant features 0."""
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 1e-9, spread, np.inf)


def plain_minimum(
    loss: Loss, x: np.ndarray, counts: np.ndarray, mass: float, penalty: float, *, intercept: bool
) -> tuple[float, np.ndarray]:
    """Objective and scores at SciPy's optimum of L(x b + a) / mass + penalty |b|^2 for one gene's counts."""
    table, c = torch.as_tensor(x), torch.as_tensor(counts)[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        b = torch.tensor(flat, requires_grad=True)
        scores = (table @ b[:-1] + (b[-1] if intercept else 0.0))[:, None]
        value = loss(scores, c).sum() / mass + penalty * b[:-1].square().sum()
        value.backward()
        assert b.grad is not None
        return value.item(), b.grad.numpy()

    found = minimize(
        objective,
        np.zeros(x.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-9, "ftol": 0, "maxiter": 5000},
    )
    return found.fun, x @ found.x[:-1] + (found.x[-1] if intercept else 0.0)


@pytest.mark.parametrize("library", [False, True])
def test_mse_is_ridge_regression(library: bool, data: Any) -> None:
    keep = data.library_size > 0
    x, counts, size = data.x[keep], data.counts[keep], data.library_size[keep]
    heads = solve_path(x, counts, size if library else None, loss="mse", penalties=[0.2, 5.0])
    y = np.log1p(1e4 * counts / size[:, None] if library else counts)
    for at, penalty in enumerate(heads.penalties):
        ridge = Ridge(alpha=penalty * len(x)).fit(standard(x), y)
        np.testing.assert_allclose(heads.predict(x, at), ridge.predict(standard(x)), atol=1e-9)
        scale = np.where(x.std(0) > 1e-9, x.std(0), np.inf)
        np.testing.assert_allclose(heads.weights[at], ridge.coef_.T / scale[:, None], atol=1e-9)


def test_poisson_is_poisson_regression(data: Any) -> None:
    heads = solve_path(data.x, data.counts, loss="poisson", penalties=[0.3], tolerance=1e-10)
    for gene in range(3):
        c = data.counts[:, gene]
        # scikit-learn halves its penalty and does not divide by the mean count
        ridge = PoissonRegressor(alpha=2 * 0.3 * c.mean(), tol=1e-12, max_iter=5000, solver="newton-cholesky")
        rate = ridge.fit(standard(data.x), c).predict(standard(data.x))
        np.testing.assert_allclose(heads.predict(data.x, 0)[:, gene], np.log(rate), atol=1e-7)


LOSSES: list[tuple[str, dict[str, Any], bool]] = [
    ("listwise", {}, False),
    ("listwise", {"count_power": 0.4}, False),
    ("poisson", {}, True),
    ("negative_binomial", {"dispersion": 1.5}, True),
    ("mse", {}, True),
    ("mse", {"centred": True}, False),
]


@pytest.mark.parametrize(("name", "options", "intercept"), LOSSES)
def test_the_optimum_is_the_one_scipy_finds(name: str, options: dict[str, Any], intercept: bool, data: Any) -> None:
    keep = data.library_size > 0
    x = standard(data.x[keep])
    function: Loss = getattr(strank, name if name == "mse" else f"{name}_nll")
    slides, size = (torch.as_tensor(values[keep]) for values in (data.slides, data.library_size))

    def loss(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return function(scores, counts, slides=slides, library_size=size, **options)

    heads = solve_path(
        data.x,
        data.counts,
        data.library_size,
        data.slides,
        loss=name,
        options=options,
        penalties=[0.3, 0.03],
        tolerance=1e-9,
    )
    n = len(data.x)
    for gene in range(3):
        c = data.counts[keep, gene]
        for at, penalty in enumerate(heads.penalties):
            mass = mass_of(name, options, c, slides.numpy())
            value, scores = plain_minimum(loss, x, c, mass, penalty, intercept=intercept)
            found = heads.predict(data.x[keep], at)[:, gene].numpy()
            np.testing.assert_allclose(found - found.mean(), scores - scores.mean(), atol=2e-5)
            if intercept:
                np.testing.assert_allclose(found, scores, atol=2e-5)
            # the empty spot is one of n in strank's mean, and in the masses nowhere
            ours = (
                heads.loss[at, gene] * n / keep.sum() / mass + penalty * heads.coefficients[at, :, gene].square().sum()
            )
            assert ours.item() == pytest.approx(value, abs=1e-8)


def mass_of(name: str, options: dict[str, Any], counts: np.ndarray, slides: np.ndarray, *, n_empty: int = 1) -> float:
    """By hand: mean count, its power spot by spot, the information of a negative binomial, 1 for squares."""
    if name == "mse":
        return 1.0
    if name == "negative_binomial":
        n_given = len(counts) + n_empty  # the mean is over all spots, empty ones included
        mean = counts.sum() / n_given
        return mean * 1.5 / (mean + 1.5) * n_given / len(counts)
    level = {slide: counts[slides == slide].mean() for slide in set(slides.tolist())}
    power = options.get("count_power", 1.0)
    return float(np.mean([level[slide] ** power if level[slide] else 0.0 for slide in slides.tolist()]))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_pairs_against_a_plain_sum_over_pairs(power: float, make_data: Any) -> None:
    data = make_data(30)
    keep = data.library_size > 0
    x, size, slides = standard(data.x[keep]), data.library_size[keep], data.slides[keep]
    heads = solve_path(
        data.x, data.counts, data.library_size, data.slides, loss="pairwise", options={"count_power": power},
        penalties=[0.1], tolerance=1e-9,
    )  # fmt: skip
    for gene in range(3):
        c, pairs = data.counts[keep, gene], []
        for i in range(len(c)):
            others = [j for j in range(len(c)) if j != i and slides[j] == slides[i]]
            pairs += [(i, j, ((c[i] + c[j]) / 2) ** (power - 1) * c[i] / len(others)) for j in others if c[i]]
        first, second, weight = (np.array(column) for column in zip(*pairs, strict=True))

        def objective(b: np.ndarray, first=first, second=second, weight=weight) -> float:
            t = x @ b + np.log(size)
            return (weight * np.logaddexp(0, t[second] - t[first])).sum() / weight.sum() + 0.1 * (b @ b)

        plain = minimize(objective, np.zeros(x.shape[1]), method="BFGS", options={"gtol": 1e-9})
        found = heads.predict(data.x[keep], 0)[:, gene].numpy()
        scores = x @ plain.x
        np.testing.assert_allclose(found - found.mean(), scores - scores.mean(), atol=1e-5)


def test_pearson_is_ridge_on_targets_standardised_inside_slides(make_data: Any) -> None:
    data = make_data(80)
    data.slides[10] = 1_000_000  # with spot 2 a slide of two, whose correlation is not defined
    counts = np.where((data.slides == 5)[:, None], 2, data.counts)  # gives slide 5 nothing that varies, without library
    heads = solve_path(data.x, counts, None, data.slides, loss="pearson", penalties=[0.1])
    x, y = standard(data.x), np.log1p(counts.astype(float))
    used = np.isin(data.slides, [-3, 40])
    for slide in np.unique(data.slides):
        x[data.slides == slide] -= x[data.slides == slide].mean(0)
    for slide in (-3, 40):
        part = y[data.slides == slide]
        y[data.slides == slide] = (part - part.mean(0)) / np.maximum(part.std(0), 1e-12)
    ridge = Ridge(alpha=0.1 * used.sum(), fit_intercept=False).fit(x[used], y[used, :3])
    found = heads.weights[0, :, :3].numpy() * np.where(data.x.std(0) > 1e-9, data.x.std(0), 0)[:, None]
    np.testing.assert_allclose(found, ridge.coef_.T, atol=1e-9)
    correlation = strank.pearson_loss(
        heads.predict(data.x, 0), torch.as_tensor(counts), slides=torch.as_tensor(data.slides)
    )
    torch.testing.assert_close(heads.loss[0], correlation)


@pytest.mark.parametrize(("name", "options", "intercept"), LOSSES)
def test_every_gradient_is_below_the_tolerance(
    name: str, options: dict[str, Any], intercept: bool, make_data: Any
) -> None:
    """By autograd through strank's loss of the predictions, not by the solver's word."""
    data = make_data()
    keep = data.library_size > 0
    data = type(data)(*(part[keep] for part in data))
    heads = solve_path(*data, loss=name, options=options)
    assert heads.penalties == default_penalties(name)
    assert heads.converged.all()
    function: Loss = getattr(strank, name if name == "mse" else f"{name}_nll")
    counts, size, slides = (torch.as_tensor(part) for part in data[1:])
    for at, penalty in enumerate(heads.penalties):
        b, level = heads.coefficients[at].clone().requires_grad_(), heads.level[at].clone().requires_grad_()
        value = function(heads.basis(data.x) @ b + level, counts, slides=slides, library_size=size, **options)
        torch.testing.assert_close(value.detach(), heads.loss[at])
        masses = [mass_of(name, options, c, data.slides, n_empty=0) or 1.0 for c in data.counts.T]
        (value / torch.tensor(masses, dtype=torch.float64) + penalty * b.square().sum(0)).sum().backward()
        assert b.grad is not None
        assert level.grad is not None
        assert b.grad.abs().max() <= heads.tolerance + 1e-12
        assert level.grad.abs().max() <= heads.tolerance + 1e-12
        torch.testing.assert_close(
            torch.maximum(b.grad.abs().amax(0), level.grad.abs() * intercept),
            heads.gradient_norm[at],
            rtol=1e-3,
            atol=1e-10,
        )


@pytest.mark.gpu
def test_on_a_gpu(data: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = (
        solve_path(data.x, data.counts, data.library_size, data.slides, device=device) for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(here.weights, there.weights.cpu(), rtol=1e-5, atol=1e-6)
