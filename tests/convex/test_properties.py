"""What must hold whatever the data: invariances, limits, degenerate inputs, history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import strank
from agl.convex.heads import solve_path
from agl.seeds import seeded

NAMES = ["listwise", "pairwise", "poisson", "negative_binomial", "mse", "mse centred", "pearson"]


def solve(name: str, data: Any, **rest: Any) -> Any:
    options: dict[str, Any] = {"dispersion": 2.0} if name == "negative_binomial" else {}
    if name == "mse centred":
        name, options = "mse", {"centred": True}
    given = {"penalties": [0.5, 0.05], "tolerance": 1e-9, **rest}
    return solve_path(data.x, data.counts, data.library_size, data.slides, loss=name, options=options, **given)


@pytest.mark.parametrize("name", NAMES)
def test_neither_order_of_spots_nor_names_of_slides_matter(name: str, data: Any) -> None:
    heads = solve(name, data)
    order = seeded(1, "order").permutation(len(data.x))
    renamed = np.unique(data.slides, return_inverse=True)[1][order] * -7 + 3
    other = solve(name, type(data)(data.x[order], data.counts[order], data.library_size[order], renamed))
    torch.testing.assert_close(heads.weights, other.weights, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(heads.loss, other.loss)


@pytest.mark.parametrize("name", ["listwise", "pairwise", "mse centred", "pearson"])
def test_a_shift_of_a_slide_is_not_seen(name: str, data: Any) -> None:
    """Features that differ by a constant between slides, in a direction that carries no weight otherwise."""
    shift = (data.slides == 5)[:, None] * np.array([0, 1, 0, 0, 0, 0])
    heads, other = solve(name, data), solve(name, data._replace(x=data.x + shift))
    torch.testing.assert_close(other.weights, heads.weights, rtol=1e-6, atol=1e-8)
    assert other.weights[:, 1].abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_place_of_features_do_not_matter(name: str, data: Any) -> None:
    heads, other = solve(name, data), solve(name, data._replace(x=data.x * 8 - 100))
    torch.testing.assert_close(heads.predict(data.x), other.predict(data.x * 8 - 100), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_penalty_gives_constant_scores(name: str, data: Any) -> None:
    scores = solve(name, data, penalties=[1e9]).predict(data.x, 0)
    assert (scores.amax(0) - scores.amin(0)).max() < 1e-6
    seen = data.counts[:, 0].sum() / data.library_size.sum() * 1e4
    if name == "poisson":  # the constant that a Poisson likelihood likes best is the log of the mean rate
        assert scores[0, 0].item() == pytest.approx(np.log(seen), abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_a_gene_has_its_solution_and_others_do_not_matter(name: str, data: Any) -> None:
    heads = solve(name, data)
    other = solve(name, data._replace(counts=data.counts[:, [0, 0, 2]]))
    torch.testing.assert_close(other.weights[:, :, 0], other.weights[:, :, 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(heads.weights[:, :, [0, 2]], other.weights[:, :, [0, 2]], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["listwise", "pairwise", "poisson"])
def test_one_penalty_means_the_same_for_ten_times_the_counts_and_twice_the_data(name: str, make_data: Any) -> None:
    data = make_data(50)
    heads = solve(name, data)
    deep = solve(name, data._replace(counts=10 * data.counts))
    torch.testing.assert_close(heads.weights[:, :, :3], deep.weights[:, :, :3], rtol=1e-5, atol=1e-7)
    slides = np.concatenate([data.slides, data.slides + 10_000_000])
    twice = type(data)(np.tile(data.x, (2, 1)), np.tile(data.counts, (2, 1)), np.tile(data.library_size, 2), slides)
    torch.testing.assert_close(heads.weights[:, :, :3], solve(name, twice).weights[:, :, :3], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_penalties_come_back_in_the_order_given(name: str, data: Any) -> None:
    records: list[tuple[int, float]] = []
    heads = solve(
        name, data, penalties=[0.05, 2.0, 0.5], report=lambda at, record: records.append((at, record["penalty"]))
    )
    assert heads.penalties == (0.05, 2.0, 0.5)
    assert records == [(1, 2.0), (2, 0.5), (0, 0.05)]
    size = heads.coefficients.square().sum(1)[:, 0]
    assert size[0] > size[2] > size[1]
    alone = solve(name, data, penalties=[0.05])
    torch.testing.assert_close(heads.weights[0], alone.weights[0], rtol=1e-6, atol=1e-8)


def test_a_path_starts_each_penalty_from_the_optimum_before(make_data: Any) -> None:
    data = make_data(200, n_genes=20)
    alone = solve("poisson", data, penalties=[0.03]).iterations.sum()
    assert solve("poisson", data, penalties=[0.04, 0.03]).iterations[1].sum() < alone


@pytest.mark.parametrize("name", NAMES)
def test_a_gene_without_counts_has_no_weights(name: str, data: Any) -> None:
    heads = solve(name, data)
    assert heads.weights[:, :, -1].abs().max() < 1e-7
    assert torch.isfinite(heads.intercept).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["one spot", "two spots", "lonely slides", "more features than spots", "constant"])
def test_degenerate_data_gives_finite_heads(name: str, case: str, make_data: Any) -> None:
    data = make_data(40, n_features=70) if case == "more features than spots" else make_data(40)
    if case.endswith(("spot", "spots")) and case[:3] in ("one", "two"):
        data = type(data)(*(part[: 1 + (case[:3] == "two")] for part in data))
    if case == "lonely slides":
        data = data._replace(slides=np.arange(40))
    if case == "constant":
        data = data._replace(x=np.ones_like(data.x))
    heads = solve(name, data, tolerance=1e-7)
    scores = heads.predict(data.x)
    assert heads.converged.all()
    assert torch.isfinite(scores).all()
    assert torch.isfinite(heads.loss).all()
    if case == "constant":
        assert not heads.weights.any()


@pytest.mark.parametrize("name", NAMES)
def test_more_features_than_spots_is_the_same_problem(name: str, make_data: Any) -> None:
    """The heads of 6 features, solved from 60 that hold them ten times: weights are shared out, scores the same."""
    data = make_data(30)
    heads = solve(name, data, penalties=[0.5])
    wide = solve(name, data._replace(x=np.tile(data.x, 10)), penalties=[5.0])
    torch.testing.assert_close(wide.predict(np.tile(data.x, 10)), heads.predict(data.x), rtol=1e-5, atol=1e-7)
    assert wide.coefficients.shape[1] <= 29


def test_single_precision_reaches_its_tolerance(make_data: Any) -> None:
    data = make_data(400, n_genes=30)
    for name in ("listwise", "poisson", "mse"):
        exact = solve(name, data)
        heads = solve(name, data, tolerance=None, dtype=torch.float32)
        assert heads.converged.all()
        assert heads.weights.dtype == torch.float32
        torch.testing.assert_close(heads.coefficients.double(), exact.coefficients, rtol=0.01, atol=0.005)


def test_batches_of_genes_change_nothing(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.tile(data.counts, 10)
    whole = solve("listwise", data._replace(counts=counts))
    monkeypatch.setattr("agl.convex.path.TABLE", 1)
    for name, heads in (("listwise", whole), ("pearson", None)):
        parts = solve(name, data._replace(counts=counts))
        if heads is not None:
            torch.testing.assert_close(parts.weights, heads.weights, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(parts.weights[:, :, :4], parts.weights[:, :, 36:], rtol=1e-8, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_spots=st.integers(2, 25),
    n_features=st.integers(1, 30),
    strength=st.floats(1e-4, 1e3),
    name=st.sampled_from(NAMES),
    burst=st.booleans(),
)
def test_the_optimum_beats_its_surroundings(
    seed: int, n_spots: int, n_features: int, strength: float, name: str, burst: bool
) -> None:
    """Whatever the data: converged, and no point nearby has a lower objective, by strank's own value."""
    rng = seeded(seed, "any")
    x = rng.normal(size=(n_spots, n_features))
    counts = rng.poisson(rng.lognormal(0, 3 if burst else 0.3, (n_spots, 2)))
    library, slides = counts.sum(1) + rng.integers(1, 50, n_spots), rng.integers(0, 3, n_spots)
    options: dict[str, Any] = {"dispersion": 0.5} if name == "negative_binomial" else {}
    loss = name
    if name == "mse centred":
        loss, options = "mse", {"centred": True}
    heads = solve_path(x, counts, library, slides, loss=loss, options=options, penalties=[strength], tolerance=1e-7)
    assert heads.converged.all()
    if loss in ("pairwise", "pearson"):  # strank draws pairs, and its Pearson loss is another
        return
    function = getattr(strank, loss if loss == "mse" else f"{loss}_nll")
    c, s, size = torch.as_tensor(counts), torch.as_tensor(slides), torch.as_tensor(library)
    mean = torch.as_tensor(counts.mean(0))
    mass = {"mse": torch.ones(2), "negative_binomial": mean * 0.5 / (mean + 0.5)}.get(loss, mean).clamp(min=1e-300)
    mass = torch.where(mean > 0, mass, 1.0) if loss != "mse" else mass

    def objective(coefficients: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        scores = heads.basis(x) @ coefficients + level
        return function(
            scores, c, slides=s, library_size=size, **options
        ) / mass + strength * coefficients.square().sum(0)

    b, level = heads.coefficients[0], heads.level[0]
    lowest = objective(b, level)
    for _ in range(5):
        step = 1e-2 * torch.as_tensor(rng.normal(size=b.shape))
        shift = 1e-2 * torch.as_tensor(rng.normal(size=2))
        assert (objective(b + step, level + shift) >= lowest - 1e-8 * (1 + lowest.abs())).all()
