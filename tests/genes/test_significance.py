"""p-values are uniform on data without any co-expression, smooth or not; discoveries are SciPy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agl.errors import UserError
from agl.genes import significance
from agl.genes.coexpression import slide_correlations
from agl.genes.significance import coexpression_evidence, discoveries, tail_probability
from agl.genes.training import TrainingSpots


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.001, 0.01]), min_size=1, max_size=40), st.floats(0.01, 0.5))
def test_discoveries_are_scipys(p_values, fdr):
    p = np.array(p_values)
    theirs = stats.false_discovery_control(p) <= fdr
    edge = np.isclose(stats.false_discovery_control(p), fdr, rtol=1e-9)
    np.testing.assert_array_equal(discoveries(p, fdr)[~edge], theirs[~edge])


def test_nan_is_never_discovered_and_does_not_count():
    p = np.array([np.nan, 0.02, np.nan, 0.04])
    assert discoveries(p, 0.05).tolist() == [False, True, False, True]
    assert discoveries(np.array([np.nan]), 0.05).tolist() == [False]
    assert discoveries(np.empty(0), 0.05).tolist() == []


@pytest.mark.parametrize("fdr", [0.0, 1.0, -0.1])
def test_a_wrong_rate_is_refused(fdr):
    with pytest.raises(UserError, match="fdr between 0 and 1"):
        discoveries(np.array([0.1]), fdr)


def test_tail_probability_is_chi_squareds_far_beyond_the_draws():
    chance = np.random.default_rng(0).chisquare(1, 20_000)
    for x in (0.1, 1.0, 4.0, 9.0):
        assert tail_probability(np.array([x]), chance)[0] == pytest.approx(stats.chi2.sf(x, 1), rel=0.15)
    for x in (16.0, 25.0):  # beyond the largest draw: within a factor of 3, and never 0
        assert 1 / 3 < tail_probability(np.array([x]), chance)[0] / stats.chi2.sf(x, 1) < 3
    values = tail_probability(np.linspace(0, 60, 500), chance)
    assert (np.diff(values) <= 0).all()


def test_the_null_variance_of_white_maps_is_one_over_degrees():
    rng = np.random.default_rng(0)
    n = 400
    coords = np.array([(i, j) for i in range(20) for j in range(20)], dtype=float)
    counts = rng.poisson(5.0, (n, 200))
    training = TrainingSpots(counts, np.full(n, 1000), np.zeros(n), coords, tuple(map(str, range(200))))
    (slide,) = slide_correlations(training, np.arange(20))
    variance = significance._null_variance(training, slide, np.arange(20), "spatial")
    assert variance[20:].mean() == pytest.approx(1 / slide.degrees, rel=0.05)


def smooth_maps(rng, coords, length, n_maps):
    apart = np.square(coords[:, None] - coords[None]).sum(-1)
    kernel = np.exp(-apart / (2 * length**2)) + 1e-6 * np.eye(len(coords))
    return np.linalg.cholesky(kernel) @ rng.standard_normal((len(coords), n_maps))


@pytest.mark.parametrize("length", [1.5, 4.0])
def test_the_null_variance_of_smooth_maps_is_what_simulation_shows(length):
    """Maps of two independent Gaussian processes, through counts: the spread of r is known by drawing it."""
    rng = np.random.default_rng(1)
    coords = np.array([(i, j) for i in range(20) for j in range(20)], dtype=float)
    maps = smooth_maps(rng, coords, length, 240)
    counts = rng.poisson(20 * np.exp(0.5 * maps))
    training = TrainingSpots(counts, np.full(400, 10_000), np.zeros(400), coords, tuple(map(str, range(240))))
    primary = np.arange(40)
    (slide,) = slide_correlations(training, primary)
    predicted = significance._null_variance(training, slide, primary, "spatial")[40:].mean()
    drawn = np.square(slide.correlation[40:]).mean()
    assert drawn > 1.5 / 400  # smoothness matters here at all
    assert predicted == pytest.approx(drawn, rel=0.1)


@pytest.mark.parametrize(("length", "least"), [(0.3, 0.035), (1.0, 0.03), (2.0, 0.02), (3.0, 0.01), (8.0, 0.0)])
def test_unrelated_smooth_maps_are_seldom_called_related(length, least):
    """At most the nominal rate, whatever the maps' smoothness, and not far below it where maps are short."""
    p_values = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        coords = np.array([(i, j) for i in range(20) for j in range(20)], dtype=float)
        counts = np.concatenate([rng.poisson(20 * np.exp(0.5 * smooth_maps(rng, coords, length, 250))) for _ in "ab"])
        training = TrainingSpots(
            counts, np.full(800, 10_000), np.repeat([0, 1], 400), np.tile(coords, (2, 1)), tuple(map(str, range(250)))
        )
        p_values.append(coexpression_evidence(training, np.arange(50)).p_value[50:])
    assert least <= (np.concatenate(p_values) <= 0.05).mean() <= 0.06


@pytest.mark.parametrize("null", ["spots", "spatial"])
def test_p_values_are_uniform_without_coexpression(null):
    p_values = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n = 300
        size = np.exp(0.6 * rng.standard_normal((n, 1)))
        counts = rng.poisson(rng.gamma(1.0, 2.0, 330) * rng.gamma(2.0, 0.5, (n, 330)) * size)
        library = np.round(5000 * size[:, 0])
        training = TrainingSpots(
            counts, library, rng.integers(0, 2, n), rng.uniform(0, 30, (n, 2)), tuple(map(str, range(330)))
        )
        frequent = training.detection[30:] > 0.05
        p_values.append(coexpression_evidence(training, np.arange(30), null=null).p_value[30:][frequent])
    p = np.concatenate(p_values)
    for level in (0.01, 0.05, 0.2):
        expected = level * len(p)
        assert abs((p <= level).sum() - expected) < 3 * np.sqrt(expected) + 0.1 * expected


def test_the_false_discovery_rate_is_near_nominal_and_smoothness_is_seen(planted):
    """Smooth unrelated genes: exchangeable spots call many of them, the spatial null few."""
    false = {"spots": 0, "spatial": 0}
    true = {"spots": 0, "spatial": 0}
    for seed in range(4):
        data = planted(seed, smooth=3.0, n_spots=900, n_slides=3, kinds=(60, 150, 150))
        for null in false:
            p = coexpression_evidence(data.candidates.training, data.candidates.primary, null=null).p_value
            found = discoveries(p[data.candidates.auxiliary], 0.1)
            false[null] += int((found & ~data.useful).sum())
            true[null] += int((found & data.useful).sum())
    assert false["spatial"] / (false["spatial"] + true["spatial"]) < 0.15
    assert false["spots"] / (false["spots"] + true["spots"]) > 0.2
    assert true["spatial"] > 0.5 * true["spots"]


def test_permuting_the_spots_of_a_slide_leaves_nothing_to_discover(planted):
    data = planted(0)
    training = data.candidates.training
    order = np.concatenate([np.random.default_rng(1).permutation(rows) for rows in training.slide_rows])
    back = np.empty_like(order)
    back[np.concatenate(training.slide_rows)] = order
    counts = training.counts.tolil()
    counts[:, data.candidates.auxiliary] = training.counts[back][:, data.candidates.auxiliary]
    broken = TrainingSpots(counts.tocsr(), training.library_size, training.slides, training.coords, training.genes)
    p = coexpression_evidence(broken, data.candidates.primary).p_value[data.candidates.auxiliary]
    assert discoveries(p, 0.05).sum() <= 3
    intact = coexpression_evidence(training, data.candidates.primary).p_value[data.candidates.auxiliary]
    assert discoveries(intact, 0.05).sum() > 40


def test_evidence_is_a_function_of_its_seed(planted):
    data = planted(0)
    training, primary = data.candidates.training, data.candidates.primary
    one, two = (coexpression_evidence(training, primary, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.p_value, two.p_value)
    other = coexpression_evidence(training, primary, seed=4)
    assert (one.p_value != other.p_value).any()
    assert stats.spearmanr(one.p_value, other.p_value, nan_policy="omit").statistic > 0.95


def test_spots_at_one_place_or_nowhere(planted):
    data = planted(0)
    training, primary = data.candidates.training, data.candidates.primary
    stacked = replace(training, coords=np.zeros_like(training.coords))
    one, two = (coexpression_evidence(t, primary, null=n) for t, n in ((stacked, "spatial"), (training, "spots")))
    np.testing.assert_allclose(one.effective_spots, two.effective_spots, rtol=1e-6)  # nothing is known about smoothness
    nowhere = replace(training, coords=np.full_like(training.coords, np.nan))
    with pytest.raises(UserError, match=r"place \(x, y\) for every training spot.*null=spots"):
        coexpression_evidence(nowhere, primary)
    np.testing.assert_array_equal(coexpression_evidence(nowhere, primary, null="spots").p_value, two.p_value)


def test_genes_without_counts_and_errors(spots):
    evidence = coexpression_evidence(spots, np.array([1, 2, 7]))
    assert np.isnan(evidence.p_value[7])
    assert np.isfinite(evidence.p_value[spots.detection > 0.05]).all()
    with pytest.raises(UserError, match=r"null='spatial' or 'spots'.*Did you mean 'spatial'"):
        coexpression_evidence(spots, np.array([1]), null="spacial")
    with pytest.raises(UserError, match="top of at least 1"):
        coexpression_evidence(spots, np.array([1]), top=0)
