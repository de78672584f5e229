"""The committee is the mean of its members' standardised scores: every member made by hand, by other means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agl.config import Component
from agl.data.views import feature_views
from agl.errors import UserError
from agl.estimators.committee import MEMBERS, Committee, CommitteeScores
from agl.estimators.convex import Convex
from agl.estimators.low_rank import LowRank
from agl.estimators.sample import Sample
from agl.testing.estimators import example_sample

MSE, LIST = Component(name="mse"), Component(name="listwise")
FEW = [{"loss": "mse", "penalties": [0.3, 3.0]}, {"loss": "mse", "penalties": [1.0], "rank": 2}, {"penalties": [0.3]}]


def standardised(scores: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """Mean 0 and sd 1 inside each slide, gene by gene."""
    found = np.empty_like(scores)
    for slide in np.unique(slides):
        part = scores[slides == slide]
        found[slides == slide] = (part - part.mean(0)) / part.std(0)
    return found


def by_hand(sample: Sample, new: Sample) -> np.ndarray:
    """The four members of `FEW`, each fitted as an estimator of its own `[member, spot, gene]`."""
    squares = replace(sample, loss=MSE)
    members = [
        Convex(penalty=3.0).fit(squares),
        Convex(penalty=0.3).fit(squares),
        LowRank(rank=2, penalty=1.0).fit(squares),
        Convex(penalty=0.3).fit(sample),
    ]
    return np.stack([standardised(member.predict(new.features), new.slides) for member in members])


def with_views(seed: int = 0, encoders: dict[str, int] | None = None) -> Sample:
    """Features of one or two encoders, then as many of the surroundings."""
    about = {"encoders": {name: {"width": width} for name, width in (encoders or {"builtin": 3}).items()}}
    return example_sample(seed, views=feature_views(about, 6))


def test_the_mean_of_members_made_by_hand() -> None:
    sample, new = example_sample(), example_sample(1, n_spots=60)
    fitted = Committee(members=FEW).fit(sample)
    members = by_hand(sample, new)
    np.testing.assert_allclose(torch.stack(list(fitted.members(new.features, new.slides))).numpy(), members, atol=1e-4)
    np.testing.assert_allclose(fitted.predict(new.features, new.slides), members.mean(0), atol=1e-4)
    np.testing.assert_allclose(fitted.mean_and_spread(new.features, new.slides)[1], members.std(0), atol=1e-4)
    assert fitted.details["members"] == 4
    assert [name.split(": ")[0] for name in fitted.details["ingredients"]] == ["own"] * 3


def test_a_member_more_is_one_line() -> None:
    sample, new = example_sample(), example_sample(1)
    more = Committee(members=[*FEW, {"loss": "poisson", "penalties": [0.1]}]).fit(sample)
    extra = Convex(penalty=0.1).fit(replace(sample, loss=Component(name="poisson"))).predict(new.features)
    members = [*by_hand(sample, new), standardised(extra, new.slides)]
    np.testing.assert_allclose(more.predict(new.features, new.slides), np.mean(members, axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("without", "kept"),
    [("low_rank", [0, 1, 3]), (["full_rank"], [2]), (["mse"], [3]), (["listwise"], [0, 1, 2]),
     (["low_rank", "listwise"], [0, 1])],
)  # fmt: skip
def test_what_is_left_out_is_left_out_and_nothing_else(without: Any, kept: list[int]) -> None:
    sample = example_sample()
    whole, rest = (Committee(members=FEW, without=word).fit(sample) for word in ((), without))
    torch.testing.assert_close(rest.weights, whole.weights[kept], rtol=1e-6, atol=1e-9)


def test_the_default_has_all_kinds_and_says_which() -> None:
    details = Committee().fit(example_sample()).details
    assert details["ingredients"] == ["own: mse", "own: mse, rank 5", "own: listwise"]
    assert details["members"] == sum(len(member["penalties"]) for member in MEMBERS)


def test_own_features_and_surroundings_are_members_apart() -> None:
    sample, new = with_views(), with_views(1)
    members = [{"loss": "mse", "penalties": [0.3]}]
    fitted = Committee(members=members).fit(sample)
    assert fitted.details["ingredients"] == ["own: mse", "context: mse"]
    assert not fitted.weights[0, 3:].any()
    assert fitted.weights[1].all()
    alone, wide = (
        Convex(penalty=0.3).fit(replace(sample.seen(columns), loss=MSE)).predict(new.features[:, columns])
        for columns in sample.views.values()
    )
    expected = (standardised(alone, new.slides) + standardised(wide, new.slides)) / 2
    np.testing.assert_allclose(fitted.predict(new.features, new.slides), expected, atol=1e-6)
    for given in ({"members": members, "without": ["context"]}, {"members": [{**members[0], "view": "own"}]}):
        torch.testing.assert_close(Committee(**given).fit(sample).weights, fitted.weights[:1])


def test_two_encoders_with_surroundings_are_four_views() -> None:
    sample = with_views(encoders={"builtin": 1, "uni": 2})
    fitted = Committee(members=[{"loss": "mse", "penalties": [0.3]}]).fit(sample)
    assert [name.split(":")[0] for name in fitted.details["ingredients"]] == [
        "builtin own", "builtin context", "uni own", "uni context"
    ]  # fmt: skip
    used = [weights.any(1).nonzero().flatten().tolist() for weights in fitted.weights]
    assert used == [[0], [0, 3], [1, 2], [1, 2, 4, 5]]
    without = Committee(members=[{"loss": "mse", "penalties": [0.3]}], without=["uni own", "uni context"]).fit(sample)
    torch.testing.assert_close(without.weights, fitted.weights[:2])


def test_scores_do_not_see_the_scale_and_level_of_a_member_or_of_features() -> None:
    fitted, new = Committee(members=FEW).fit(example_sample()), example_sample(1)
    expected = fitted.predict(new.features, new.slides)
    scaled = fitted.weights.double() * torch.tensor([0.01, 1.0, 300.0, 7.0])[:, None, None]
    scaled[1, :, 2] *= 50
    again = CommitteeScores(scaled, {}).predict(new.features, new.slides)
    np.testing.assert_allclose(again, expected, atol=1e-9)
    shifted = new.features + 3.0 * new.slides[:, None]  # a level of each slide
    np.testing.assert_allclose(fitted.predict(shifted, new.slides), expected, atol=1e-9)


def test_scores_that_do_not_vary_count_0() -> None:
    fitted = CommitteeScores(torch.tensor([[[1.0, 0.0]], [[2.0, 1.0]]], dtype=torch.float64), {})
    x, slides = np.array([[0.0], [2.0], [5.0]]), np.array([0, 0, 1])
    np.testing.assert_allclose(fitted.predict(x, slides), [[-1, -0.5], [1, 0.5], [0, 0]])
    np.testing.assert_allclose(fitted.mean_and_spread(x, slides)[1], [[0, 0.5], [0, 0.5], [0, 0]])
    assert fitted.predict(x[:0], slides[:0]).shape == (0, 2)


def test_auxiliary_genes_move_the_low_rank_members_alone() -> None:
    sample = example_sample(strength=5.0)
    members = [{"loss": "mse", "penalties": [0.3]}, {"loss": "mse", "penalties": [0.3], "rank": 1}]
    with_genes, alone = (
        Committee(members=members, bound=None).fit(one).weights
        for one in (sample, replace(sample, counts=sample.primary, weights=np.zeros(0)))
    )
    torch.testing.assert_close(with_genes[0], alone[0])
    assert (with_genes[1] - alone[1]).abs().max() > 1e-3 * alone[1].abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": [{"loss": "mse", "penalty": [1]}]}, "received 'penalty'. Did you mean 'penalties'?"),
        ({"members": [{"loss": "mse"}]}, "Expected penalties of every member, received none"),
        ({"members": [{"penalties": [1], "view": "contxt"}]}, "Expected a view in"),
        ({"members": [{"loss": "margin_ranking", "penalties": [1]}]}, "convex and smooth"),
        ({"members": [{"loss": "mse", "penalties": [-1]}]}, "penalties above 0"),
        ({"members": FEW, "without": ["lowrank"]}, "received 'lowrank'. Did you mean 'low_rank'?"),
        ({"members": FEW, "without": ["own"]}, "which leaves none"),
        ({"members": []}, "Expected members"),
        ({"members": [{"loss": "mse", "penalties": [1], "rank": 0}]}, "ranks of at least 1, received 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Committee(**options).fit(example_sample())


def test_a_loss_that_is_not_convex_is_refused_also_by_the_config() -> None:
    with pytest.raises(UserError, match="convex and smooth"):
        Committee().fit(example_sample(loss=Component(name="margin_ranking")))
