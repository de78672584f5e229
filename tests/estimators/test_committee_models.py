"""Members that are models by name, their weights, stacking, and when a network has a seat; all made by hand as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from agl.config import Component
from agl.data.expression import log_expression
from agl.errors import UserError
from agl.estimators import committee as module
from agl.estimators.baselines import Ridge
from agl.estimators.committee import Committee, CommitteeScores
from agl.estimators.convex import Convex
from agl.estimators.inside import folds_inside
from agl.estimators.low_rank import LowRank
from agl.estimators.sample import Sample
from agl.estimators.seat import SHARES, stacked_shares
from agl.estimators.written import read, written
from agl.testing.estimators import example_sample

MSE = Component(name="mse")
ONE = {"loss": "mse", "penalties": [0.3]}


def standardised(scores: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """Mean 0 and sd 1 inside each slide, gene by gene."""
    found = np.empty_like(scores)
    for slide in np.unique(slides):
        part = scores[slides == slide]
        found[slides == slide] = (part - part.mean(0)) / part.std(0)
    return found


def by_hand(sample: Sample, new: Sample) -> np.ndarray:
    """One solved member, a ridge and a low-rank model `[member, spot, gene]`."""
    squares = replace(sample, loss=MSE)
    ridge = Ridge().fit(sample.features, sample.primary, sample.library_size, sample.slides, seed=sample.seed)
    fitted = [Convex(penalty=0.3).fit(squares), ridge, LowRank(rank=2, penalty=1.0).fit(squares)]
    return np.stack([standardised(each.predict(new.features), new.slides) for each in fitted])


def test_models_by_name_and_weights() -> None:
    sample, new = example_sample(), example_sample(1, n_spots=60)
    models = [{"model": "ridge", "weight": 2}, {"model": "low_rank", "loss": "mse", "rank": 2, "penalty": 1.0}]
    fitted = Committee(members=[ONE, *models]).fit(sample)
    members = by_hand(sample, new)
    shares = np.array([1, 2, 1]) / 4
    mean = np.tensordot(shares, members, 1)
    spread = np.sqrt(np.tensordot(shares, (members - mean) ** 2, 1))
    found = fitted.mean_and_spread(new.features, new.slides)
    np.testing.assert_allclose(found[0], mean, atol=1e-4)
    np.testing.assert_allclose(found[1], spread, atol=1e-4)
    assert fitted.details["ingredients"] == ["own: mse", "own: ridge, listwise", "own: low_rank, mse"]
    again = read(*written(fitted))  # all of them are linear
    np.testing.assert_array_equal(again.predict(new.features, new.slides), found[0])
    without = Committee(members=[ONE, *models], without=["ridge"]).fit(sample)
    np.testing.assert_allclose(without.predict(new.features, new.slides), members[[0, 2]].mean(0), atol=1e-4)


def test_stacking_is_the_least_squares_of_scipy() -> None:
    sample = example_sample(n_spots=90)
    members = [ONE, {"loss": "mse", "penalties": [30.0], "rank": 1}, {"model": "mean"}]
    fitted = Committee(members=members, stacking=True).fit(sample)
    rows, target = [], []
    for kept, held in folds_inside(sample):
        rest, left = sample.at(kept), sample.at(held)
        parts = torch.stack(list(Committee(members=members).fit(rest).members(left.features, left.slides))).numpy()
        truth = standardised(log_expression(left.primary, left.library_size), left.slides)
        for slide in np.unique(left.slides):
            scale = 1 / np.sqrt((left.slides == slide).sum())
            rows.append(parts[:, left.slides == slide].reshape(len(parts), -1).T * scale)
            target.append(truth[left.slides == slide].ravel() * scale)
    weights, _ = optimize.nnls(np.concatenate(rows), np.nan_to_num(np.concatenate(target)))
    np.testing.assert_allclose(fitted.counted, weights / weights.sum(), atol=1e-4)
    assert fitted.counted[-1] == pytest.approx(0, abs=1e-6)  # the mean says nothing
    assert sum(fitted.details["shares"]) == pytest.approx(1, abs=1e-5)


def test_stacking_without_anything_to_leave_out_is_the_plain_average() -> None:
    sample = example_sample()
    few = sample.at(np.flatnonzero(sample.slides == 0)[:3])
    assert stacked_shares(few, lambda rest: None, 3) is None  # type: ignore[arg-type, return-value]


def bent(n_spots: int, seed: int) -> Sample:
    """Counts that follow the square of a feature, which no linear score can tell."""
    sample = example_sample(seed, n_spots=n_spots, selector=None)
    rate = 5 * np.exp(np.clip(sample.features[:, :1], -2, 2) ** 2)
    counts = np.random.default_rng(seed).poisson(np.repeat(rate, sample.counts.shape[1], axis=1))
    return replace(sample, counts=counts, library_size=np.full(len(sample), 1000))


def knows(sample: Sample, model: Component, columns: np.ndarray, seed: int) -> Callable[[np.ndarray], torch.Tensor]:
    """In the place of a trained network: one that knows the answer."""
    return lambda features: torch.from_numpy(np.repeat(features[:, :1] ** 2, sample.n_primary, axis=1)).double()


def guesses(sample: Sample, model: Component, columns: np.ndarray, seed: int) -> Callable[[np.ndarray], torch.Tensor]:
    """In the place of a trained network: one that knows nothing."""

    def scores(features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(seed).normal(size=(len(features), sample.n_primary)))

    return scores


@pytest.mark.parametrize(("trains", "adds"), [(knows, True), (guesses, False)])
def test_a_network_has_a_seat_where_it_adds(trains: Any, adds: bool) -> None:
    sample, new = (bent(240, seed) for seed in (0, 1))
    fitted = Committee(members=[ONE]).fit(replace(sample, trains=trains))
    share = fitted.details["network_share"]
    assert (share > 0) == adds
    assert list(fitted.details["network_scores"]) == [f"{each:g}" for each in SHARES]
    assert fitted.details["costs"]["seat"] > 0
    assert len(fitted.others) == (2 if adds else 0)  # two seeds
    linear = standardised(Convex(penalty=0.3).fit(replace(sample, loss=MSE)).predict(new.features), new.slides)
    network = standardised(trains(sample, None, None, 0)(new.features).numpy(), new.slides)
    expected = (1 - share) * linear + share * network
    np.testing.assert_allclose(fitted.predict(new.features, new.slides), expected, atol=1e-4)


def test_nobody_is_asked_where_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(bent(120, 0), trains=knows)
    assert "network_share" not in Committee(members=[ONE]).fit(few).details
    monkeypatch.setattr(module, "FEWEST", 0)
    assert "network_share" in Committee(members=[ONE]).fit(few).details
    for off in ({"network": None}, {"without": ["mlp"]}):
        assert "network_share" not in Committee(members=[ONE], **off).fit(few).details
    one_slide = few.at(np.flatnonzero(few.slides == few.slides[0]))
    assert "network_share" not in Committee(members=[ONE]).fit(one_slide).details


def test_a_member_of_no_share_is_not_heard() -> None:
    shares = torch.tensor([1.0, 0.0])
    fitted = CommitteeScores(torch.tensor([[[1.0]], [[-3.0]]]), {}, shares=shares)
    x, slides = np.array([[0.0], [2.0]]), np.array([0, 0])
    np.testing.assert_allclose(fitted.mean_and_spread(x, slides), [[[-1], [1]], [[0], [0]]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": [{"model": "mlp"}]}, "where nobody trains networks"),
        ({"members": [{"model": "mlp", "hiden": [4]}]}, "Did you mean 'hidden'"),
        ({"members": [{"model": "rigde"}]}, "Did you mean 'ridge'"),
        ({"members": [{"model": "committee"}]}, "received a committee"),
        ({"members": [{"model": "ridge", "seeds": 0}]}, "seeds of a member from 1"),
        ({"members": [{**ONE, "weight": 0}]}, "weight above 0"),
        ({"network": {"penalties": [1]}}, "Expected a model at network"),
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Committee(**options).fit(example_sample())
