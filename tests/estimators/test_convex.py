"""Heads solved instead of trained: the optimum, the penalty chosen inside, and what is told and refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from sklearn.linear_model import Ridge as SklearnRidge

import strank
from agl.config import Component
from agl.errors import UserError
from agl.estimators.convex import Convex
from agl.estimators.sample import Sample
from agl.testing.estimators import example_sample

MSE = Component(name="mse")


def standardised(sample: Sample, like: Sample | None = None) -> np.ndarray:
    like = sample if like is None else like
    return (sample.features - like.features.mean(0)) / like.features.std(0)


def target(sample: Sample) -> np.ndarray:
    return np.log1p(1e4 * sample.primary / sample.library_size[:, None])


def sklearn_scores(sample: Sample, new: Sample, penalty: float) -> np.ndarray:
    model = SklearnRidge(alpha=penalty * len(sample), solver="svd")
    return model.fit(standardised(sample), target(sample)).predict(standardised(new, sample))


@pytest.mark.parametrize("penalty", [0.03, 1.0])
def test_squares_are_sklearns_ridge(penalty: float) -> None:
    sample, new = example_sample(loss=MSE), example_sample(1)
    found = Convex(penalty=penalty).fit(sample).predict(new.features)
    np.testing.assert_allclose(found, sklearn_scores(sample, new, penalty), atol=1e-9)


def test_a_list_head_is_scipys_minimum() -> None:
    """strank's loss of one gene over its mean count, with the penalty, minimised by another solver."""
    sample = example_sample()
    x, gene = torch.from_numpy(standardised(sample)), 3
    counts = torch.from_numpy(sample.primary[:, [gene]].astype(float))
    of = {"slides": torch.from_numpy(sample.slides), "library_size": torch.from_numpy(sample.library_size)}

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        b = torch.from_numpy(weights).requires_grad_()
        loss = strank.listwise_nll(x @ b[:, None], counts, **of)[0] / counts.mean() + 0.3 * b.square().sum()
        loss.backward()
        return loss.item(), b.grad.numpy()

    expected = minimize(objective, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    found = Convex(penalty=0.3).fit(sample)
    weights = found.weights[:, gene].numpy() * sample.features.std(0)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert found.details["gradient"] <= 1e-6


def test_the_penalty_is_the_brute_force_choice() -> None:
    """Every patient left out in turn, Spearman by SciPy, the strongest within one standard error of the best."""
    sample, path = example_sample(loss=MSE), [30.0, 3.0, 0.3, 0.03]
    by_slide = np.empty((4, 3))
    for at, penalty in enumerate(path):
        for patient in range(3):
            rest, left = (sample.at(np.flatnonzero(here)) for here in
                          (sample.patients != patient, sample.patients == patient))  # fmt: skip
            guess, truth = sklearn_scores(rest, left, penalty), target(left)
            by_slide[at, patient] = np.mean([stats.spearmanr(guess[:, g], truth[:, g])[0] for g in range(5)])
    details = Convex(penalties=path[::-1]).fit(sample).details
    assert details["cv"] == "3 folds of patients"
    assert list(details["cv_scc"].values()) == pytest.approx(by_slide.mean(1), abs=1e-6)
    best = by_slide.mean(1).argmax()
    behind = by_slide[best] - by_slide
    close = behind.mean(1) <= behind.std(1, ddof=1) / np.sqrt(3)
    assert details["penalty"] == path[close.argmax()]
    assert details["penalty_at_edge"] == (close.argmax() in (0, 3))


def test_the_solution_of_a_chosen_penalty_is_that_of_a_fixed_one() -> None:
    sample, new = example_sample(), example_sample(1).features
    chosen = Convex().fit(sample)
    fixed = Convex(penalty=chosen.details["penalty"]).fit(sample)
    np.testing.assert_allclose(chosen.predict(new), fixed.predict(new), atol=1e-5)
    assert "cv" not in fixed.details
    assert fixed.details["penalty_at_edge"] is False


def test_auxiliary_genes_change_nothing() -> None:
    sample, new = example_sample(), example_sample(1).features
    alone = replace(sample, counts=sample.primary, weights=sample.weights[:0])
    np.testing.assert_array_equal(Convex().fit(sample).predict(new), Convex().fit(alone).predict(new))


@pytest.mark.parametrize(
    "loss",
    [
        Component(name="listwise", count_power=0.5),
        Component(name="pairwise"),
        Component(name="poisson"),
        Component(name="negative_binomial", dispersion=1.0),
        Component(name="mse", centred=True),
        Component(name="pearson"),
    ],
    ids=lambda loss: loss.name,
)
def test_every_convex_loss_is_solved_and_ranks_new_spots(loss: Component) -> None:
    sample, new = example_sample(loss=loss), example_sample(1)
    fitted = Convex(penalty=0.1).fit(sample)
    assert fitted.details["gradient"] <= 1e-6
    found, truth = fitted.predict(new.features), target(new)
    assert np.mean([stats.spearmanr(found[:, g], truth[:, g])[0] for g in range(5)]) > 0.4


def test_every_penalty_is_reported_from_the_strongest_to_the_one_taken() -> None:
    records: list[dict[str, Any]] = []
    details = Convex(penalties=[0.1, 10.0, 1.0]).fit(example_sample(report=records.append)).details
    assert [record["penalty"] for record in records] == [10.0, 1.0, 0.1][: len(records)]
    assert records[-1]["penalty"] == details["penalty"]
    assert records[-1]["loss"] == pytest.approx(details["loss"])
    assert all(record["converged"] == 1 for record in records)


def test_too_few_spots_to_leave_any_out() -> None:
    few = example_sample().at(np.arange(5))
    few.slides[:], few.patients[:] = 0, 0
    details = Convex(penalties=[1.0, 0.3, 0.1]).fit(few).details
    assert details["penalty"] == 0.3
    assert "too few spots" in details["cv"]


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (Component(name="margin_ranking"), {}, "its hinge has no curvature to solve with"),
        (Component(name="dirichlet_multinomial"), {}, "not convex in the scores"),
        (Component(name="negative_binomial"), {}, "known dispersion"),
        (Component(name="mine.py:mine"), {}, "losses known to be convex"),
        (MSE, {"penalty": 0.0}, "penalties above 0, received"),
        (MSE, {"penalties": []}, "received none"),
        (MSE, {"penalties": [1.0, float("nan")]}, "penalties above 0"),
        (MSE, {"tolerance": -1.0}, "tolerance above 0"),
    ],
)
def test_what_cannot_be_solved_is_refused(loss: Component, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Convex(**options).fit(example_sample(loss=loss))
