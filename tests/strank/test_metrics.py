"""Metrics against SciPy, hand arithmetic and invariances; what is undefined is NaN and counted."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import strank
from agl.testing.metrics import check_metric
from strank import metrics

CORRELATIONS = {
    "pearson": (strank.pearson, stats.pearsonr),
    "spearman": (strank.spearman, stats.spearmanr),
    "kendall": (strank.kendall, stats.kendalltau),
}
RNG = np.random.default_rng(0)


def reference(name: str, scores: np.ndarray, counts: np.ndarray) -> float:
    """SciPy's value for one gene; NaN where it has none."""
    if len(scores) < 3:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(CORRELATIONS[name][1](scores, counts)[0])


def sample(n: int, genes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and sparse counts that go with them."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(1.0, 0.7, (n, genes))
    return torch.from_numpy(rate + rng.normal(0, 0.7, rate.shape)).float(), torch.from_numpy(rng.poisson(rate))


@pytest.mark.parametrize("name", CORRELATIONS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 25))
def test_equals_scipy_on_small_tables(name: str, data: st.DataObject, n: int) -> None:
    small = st.integers(-2, 3)
    scores = np.array(data.draw(st.lists(small, min_size=n, max_size=n)), dtype=float)
    counts = np.array(data.draw(st.lists(small, min_size=n, max_size=n)))
    found = CORRELATIONS[name][0](torch.from_numpy(scores)[:, None], torch.from_numpy(counts)[:, None])
    np.testing.assert_allclose(found.item(), reference(name, scores, counts), atol=1e-12)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_equals_scipy_per_slide_and_pooled(name: str) -> None:
    scores, counts = sample(400, 5)
    slides = torch.from_numpy(RNG.integers(0, 6, 400)) * 11 - 20  # unsorted, gaps, negative
    slides[0] = 999  # a slide of one spot
    metric = CORRELATIONS[name][0]
    codes = np.unique(slides)
    s, c = scores.numpy(), counts.numpy()
    rows = [(slides == code).numpy() for code in codes]
    expected = np.array([[reference(name, s[row, gene], c[row, gene]) for gene in range(5)] for row in rows])
    found = metric(scores, counts, slides=slides, per_slide=True)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert np.isnan(expected[-1]).all()
    np.testing.assert_allclose(metric(scores, counts, slides=slides).numpy(), np.nanmean(expected, axis=0), atol=1e-12)
    pooled = [reference(name, scores[:, g].numpy(), counts[:, g].numpy()) for g in range(5)]
    np.testing.assert_allclose(metric(scores, counts).numpy(), pooled, atol=1e-12)
    assert metric(scores, counts, per_slide=True).shape == (1, 5)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_two_hundred_thousand_spots_with_seventy_percent_zeros(name: str) -> None:
    rng = np.random.default_rng(3)
    rate = 0.71 * rng.uniform(size=200_000)
    counts, scores = rng.poisson(rate), rate + rng.normal(0, 0.3, len(rate))
    assert 0.69 < (counts == 0).mean() < 0.72
    found = CORRELATIONS[name][0](torch.from_numpy(scores)[:, None], torch.from_numpy(counts)[:, None]).item()
    assert found == pytest.approx(reference(name, scores, counts), abs=1e-12)
    assert found > 0.1  # where 32-bit rank sums overflow, the sign turns


def test_hand_arithmetic() -> None:
    scores, counts = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[3], [1], [8]])
    # deviations (-4/3, -1/3, 5/3) and (-1, -3, 4): 9 / sqrt(14/3 * 26)
    assert strank.pearson(scores, counts).item() == pytest.approx(9 / math.sqrt(14 / 3 * 26), abs=1e-15)
    assert strank.spearman(scores, counts).item() == 0.5  # ranks 123 and 213
    assert strank.kendall(scores, counts).item() == pytest.approx(1 / 3, abs=1e-15)  # two pairs against one
    assert strank.mean_squared_error(scores, counts).item() == pytest.approx((4 + 1 + 16) / 3, abs=1e-15)


@pytest.mark.parametrize("name", CORRELATIONS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, math.log1p(3.0), 4.0268, 1e30, -1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_are_undefined_whatever_they_round_to(name: str, value: float, dtype: torch.dtype) -> None:
    varying = torch.arange(1000, dtype=dtype)[:, None] % 7
    constant = torch.full((1000, 1), value, dtype=dtype)
    nearly = constant.clone()
    nearly[::2] = torch.nextafter(nearly[::2], torch.tensor(math.inf, dtype=dtype))  # as sums in another order give
    metric = CORRELATIONS[name][0]
    for flat in (constant, nearly) if value else (constant,):
        assert metric(flat, varying).isnan().all()
        assert metric(varying, flat).isnan().all()


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_small_spread_on_a_large_offset_is_not_a_constant(name: str) -> None:
    scores, counts = sample(200, 1)
    metric = CORRELATIONS[name][0]
    shifted = 1e6 + scores.double()
    expected = reference(name, shifted.numpy()[:, 0], counts.numpy()[:, 0])
    assert metric(shifted, counts).item() == pytest.approx(expected, abs=1e-9)
    assert metric(shifted, counts).item() == pytest.approx(metric(scores, counts).item(), abs=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e307])
def test_pearson_at_the_ends_of_float64(scale: float) -> None:
    scores, counts = sample(100, 2)
    expected = strank.pearson(scores.double(), counts)
    torch.testing.assert_close(strank.pearson(scores.double() * scale, counts), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_missing_values_are_undefined(name: str) -> None:
    scores, counts = sample(30, 4)
    scores[3, 1], scores[4, 2] = math.nan, math.inf
    found = CORRELATIONS[name][0](scores, counts)
    assert found.isnan().tolist() == [False, True, True, False]
    slides = torch.arange(30) // 10
    per_slide = CORRELATIONS[name][0](scores, counts, slides=slides, per_slide=True)
    assert per_slide.isnan().nonzero().tolist() == [[0, 1], [0, 2]]


def test_reasons_are_counted_once_and_agree_with_the_metric() -> None:
    scores, counts = sample(62, 4)
    slides = torch.cat([torch.arange(60) // 20, torch.tensor([7, 7])])
    counts[:20, 0] = 5
    scores[20:40, 1] = 0.25
    scores[40, 2] = math.nan
    counts[:20, 3], scores[:20, 3] = 0, 0.0
    reasons = strank.why_undefined(scores, counts, slides=slides)
    assert reasons == {"few_spots": 4, "not_finite": 1, "constant_counts": 2, "constant_scores": 1}
    values = strank.spearman(scores, counts, slides=slides, per_slide=True)
    assert strank.count_undefined(values) == sum(reasons.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_high(dtype: torch.dtype) -> None:
    scores, counts = sample(3000, 2)
    low = scores.to(dtype)
    for metric in (strank.pearson, strank.mean_squared_error):
        assert torch.equal(metric(low, counts), metric(low.double(), counts.double()))


def test_mean_squared_error_is_defined_for_one_spot_and_constants() -> None:
    scores, counts = torch.tensor([[2.0], [2.0], [1.0]]), torch.full((3, 1), 5)
    found = strank.mean_squared_error(scores, counts, slides=torch.tensor([0, 0, 1]), per_slide=True)
    assert found.tolist() == [[9.0], [16.0]]


def test_no_spots_no_value() -> None:
    for metric in (strank.pearson, strank.kendall, strank.mean_squared_error):
        assert metric(torch.empty(0, 2), torch.empty(0, 2)).isnan().all()
        empty = metric(torch.empty(0, 2), torch.empty(0, 2), slides=torch.empty(0, dtype=torch.long), per_slide=True)
        assert empty.shape == (0, 2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, counts = sample(100, 9)
    slides = torch.from_numpy(RNG.integers(0, 3, 100))
    whole = [metric(scores, counts, slides=slides) for metric, _ in CORRELATIONS.values()]
    monkeypatch.setattr("strank.ranks.CHUNK", 250)
    for expected, (metric, _) in zip(whole, CORRELATIONS.values(), strict=True):
        torch.testing.assert_close(metric(scores, counts, slides=slides), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_the_way_an_accelerator_takes_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, counts = sample(300, 4)
    scores[7, 2] = math.nan
    slides = torch.from_numpy(RNG.integers(0, 9, 300))
    metric = CORRELATIONS[name][0]
    expected = metric(scores, counts, slides=slides, per_slide=True), metric(scores, counts)
    for module in ("strank.segments", "strank.ranks"):
        monkeypatch.setattr(f"{module}.in_numpy", lambda values: False)
    found = metric(scores, counts, slides=slides, per_slide=True), metric(scores, counts)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", CORRELATIONS)
def test_on_a_gpu(name: str) -> None:
    scores, counts = sample(300, 4)
    slides = torch.from_numpy(RNG.integers(0, 9, 300))
    metric = CORRELATIONS[name][0]
    found = metric(scores.cuda(), counts.cuda(), slides=slides.cuda(), per_slide=True)
    torch.testing.assert_close(found.cpu(), metric(scores, counts, slides=slides, per_slide=True), atol=1e-12, rtol=0)


def test_gradients_are_not_tracked() -> None:
    scores, counts = sample(20, 1)
    assert not strank.pearson(scores.requires_grad_(), counts).requires_grad


@pytest.mark.parametrize("metric", [strank.pearson, strank.spearman, strank.kendall])
def test_contract_of_correlations(metric: metrics.Kernel) -> None:
    check_metric(metric)


def test_contract_of_errors() -> None:
    check_metric(strank.mean_squared_error, correlation=False)


FAULTS = {
    "zero for undefined": lambda s, c, **options: torch.nan_to_num(strank.pearson(s, c, **options)),
    "slides ignored": lambda s, c, slides=None, per_slide=False: strank.pearson(s, c, per_slide=per_slide),
    "reduced over genes": lambda s, c, **options: strank.pearson(s, c, **options).mean(-1),
    "changes its input": lambda s, c, **options: strank.pearson(s.clamp_(max=1), c, **options),
    "first spots only": lambda s, c, slides=None, per_slide=False: strank.pearson(s[:20], c[:20], per_slide=per_slide),
    "codes in order of appearance": lambda s, c, slides=None, per_slide=False: strank.pearson(
        s, c, slides=None if slides is None else (slides[:, None] == slides[:3]).int().argmax(1), per_slide=per_slide
    ),
}


@pytest.mark.parametrize("broken", FAULTS.values(), ids=FAULTS)
def test_contract_finds_faults(broken: metrics.Kernel) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        check_metric(broken)


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="scores as a torch tensor, received ndarray"):
        strank.pearson(np.ones((3, 1)), torch.ones(3, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"received \[3, 1\] and \[3, 2\]"):
        strank.pearson(torch.ones(3, 1), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"scores of shape \[spot, gene\], received \[3\]"):
        strank.spearman(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match=r"one slide code a spot, \[3\], received \[3, 1\]"):
        strank.kendall(torch.ones(3, 1), torch.ones(3, 1), slides=torch.ones(3, 1, dtype=torch.long))


def test_importing_strank_does_not_import_torchmetrics() -> None:
    code = "import strank, sys; assert 'torchmetrics' not in sys.modules; assert 'SpearmanMetric' in strank.__all__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_still_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'spearmann'"):
        strank.spearmann  # noqa: B018
