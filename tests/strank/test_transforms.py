"""Every built-in loss under what PyTorch does to functions: compiled, mapped, differentiated, threads, no device."""

from __future__ import annotations

import functools
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import strank

LOSSES = {
    "mse": (strank.mse, {}),
    "mse_centred": (strank.mse, {"centred": True}),
    "poisson": (strank.poisson_nll, {}),
    "negative_binomial": (strank.negative_binomial_nll, {"dispersion": 2.0}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 2}),
    "margin": (strank.margin_ranking, {}),
    "margin_released": (strank.margin_ranking_released, {}),
    "listwise": (strank.listwise_nll, {}),
    "listwise_of_4": (strank.listwise_nll, {"list_size": 4}),
    "dirichlet_multinomial": (strank.dirichlet_multinomial_nll, {"concentration": 5.0}),
    "pearson": (strank.pearson_loss, {}),
    "pearson_pooled": (strank.pearson_loss, {"pooled": True, "count_power": 0.5}),
}
every = pytest.mark.parametrize("name", LOSSES)
DRAWS = ("pairwise", "margin", "margin_released", "listwise_of_4")


def bind(name, batch, dtype=torch.float32):
    """The loss of the scores alone, with equal draws at every call; and the scores."""
    loss, options = LOSSES[name]

    counts = batch.counts.to(dtype)

    def function(scores):
        draw = {"generator": torch.Generator().manual_seed(3)} if name in DRAWS else {}
        return loss(scores, counts, slides=batch.slides, library_size=batch.library_size, **options, **draw)

    return function, batch.scores.to(dtype)


def value_and_slope(function, scores):
    scores = scores.detach().clone().requires_grad_()
    value = function(scores)
    return value.detach(), torch.autograd.grad(value.sum(), scores)[0]


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_func_grad_is_autograds(name, dtype, make_batch):
    function, scores = bind(name, make_batch(), dtype)
    value, slope = value_and_slope(function, scores)
    found = torch.func.grad(lambda s: function(s).sum())(scores)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found, slope, rtol=tolerance, atol=tolerance * float(slope.abs().max()))
    mapped = torch.func.vmap(function, randomness="same")(scores[None])[0]
    torch.testing.assert_close(mapped, value, rtol=1e-5, atol=1e-6)


@every
def test_vmap_over_scores_is_a_loop(name, make_batch):
    function, scores = bind(name, make_batch(), torch.float64)
    several = torch.stack([scores, -scores, 0 * scores, 3 * scores + 1])
    slope_of = torch.func.grad(lambda s: function(s).sum())
    found = torch.func.vmap(function, randomness="same")(several)
    torch.testing.assert_close(found, torch.stack([function(each) for each in several]))
    slopes = torch.func.vmap(slope_of, randomness="same")(several)
    # where scores tie, a hinge has several slopes
    some = [0, 1, 3]
    torch.testing.assert_close(slopes[some], torch.stack([slope_of(several[i]) for i in some]))


@every
def test_double_backward_is_that_of_finite_differences(name, make_batch):
    function, scores = bind(name, make_batch(n_spots=10, n_genes=2, n_slides=2), torch.float64)
    scores = scores.clone().requires_grad_()
    direction = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(function(scores).sum(), scores, create_graph=True)
    if name.startswith("margin"):  # piecewise linear: the second derivative is 0, if it is one
        if slope.requires_grad:
            (found,) = torch.autograd.grad((slope * direction).sum(), scores, allow_unused=True)
            assert found is None or (found == 0).all()
        return
    (found,) = torch.autograd.grad((slope * direction).sum(), scores)
    step = 1e-6
    up, down = (value_and_slope(function, scores + sign * step * direction)[1] for sign in (1, -1))
    torch.testing.assert_close(found, (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


@every
def test_deterministic_mode_changes_nothing(name, make_batch):
    function, scores = bind(name, make_batch(300, 30))
    plain = value_and_slope(function, scores)
    torch.use_deterministic_algorithms(True)
    try:
        found = value_and_slope(function, scores)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


@every
def test_python_threads_do_not_disturb_each_other(name, make_batch):
    batches = [make_batch(200, 20, seed=seed) for seed in range(4)]
    functions = [bind(name, batch) for batch in batches]
    alone = [value_and_slope(*each) for each in functions]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda each: value_and_slope(*each), functions * 5))
    for at, found in enumerate(together):
        assert all(torch.equal(a, b) for a, b in zip(alone[at % 4], found, strict=True))


@every
@pytest.mark.parametrize("threads", [1, 2])
def test_torchs_threads_change_rounding_at_most(name, threads, make_batch):
    function, scores = bind(name, make_batch(128, 600))
    before = torch.get_num_threads()
    expected = value_and_slope(function, scores)
    torch.set_num_threads(threads)
    try:
        found = value_and_slope(function, scores)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@every
def test_a_device_without_data_is_refused_in_a_sentence(name):
    loss, options = LOSSES[name]
    here, nowhere = torch.zeros(5, 2), torch.zeros(5, 2, device="meta")
    for scores, counts, what in [(nowhere, nowhere, "scores"), (here, nowhere, "counts"), (nowhere, here, "scores")]:
        with pytest.raises(ValueError, match=f"Expected {what} that hold values, received them on the device 'meta'"):
            loss(scores.requires_grad_(), counts, **options)
    for metric in (strank.pearson, strank.spearman, strank.kendall, strank.mean_squared_error):
        with pytest.raises(ValueError, match="that hold values"):
            metric(nowhere, nowhere)


@every
@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("slides", [False, True])
def test_nothing_and_next_to_nothing(name, shape, slides):
    loss, options = LOSSES[name]
    draw = {"generator": torch.Generator().manual_seed(0)} if name in DRAWS else {}
    codes = torch.arange(shape[0]) if slides else None
    for size in (None, torch.ones(shape[0])):
        scores = torch.zeros(shape, requires_grad=True)
        value = loss(scores, torch.ones(shape), slides=codes, library_size=size, **options, **draw)
        assert value.shape == shape[1:]
        assert value.isfinite().all()
        (slope,) = torch.autograd.grad(value.sum(), scores)
        assert slope.shape == shape
        assert slope.isfinite().all()


@every
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf])
def test_an_infinite_score_is_no_quiet_number(name, bad, way, make_batch):
    """A value that is infinite or NaN where it must be, and no other gene's."""
    batch = make_batch()
    loss, options = LOSSES[name]
    scores = batch.scores.clone()
    scores[9, 1] = bad
    value, _ = way(loss, scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **options)
    whole, _ = way(loss, batch.scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **options)
    others = [0, 2, 3]
    assert value[others].isfinite().all()
    torch.testing.assert_close(value[others], whole[others])
    if value[1].isfinite():  # a limit that exists
        scores[9, 1] = 1e6 if bad > 0 else -1e6
        limit, _ = way(loss, scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **options)
        torch.testing.assert_close(value[1], limit[1])


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_are_rounded_ones(name, dtype, make_batch):
    function, half = bind(name, make_batch(400, 6), dtype)
    exact, _ = bind(name, make_batch(400, 6), torch.float64)
    _, slope = value_and_slope(function, half)
    _, expected = value_and_slope(exact, half.double())
    assert slope.dtype == dtype
    step = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    off = (slope.double() - expected).abs() > expected.abs() * 2 * torch.finfo(dtype).eps + 4 * step + 1e-9
    assert off.sum() == 0


@functools.cache
def compiler_works() -> bool:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        return False
    try:
        return bool(torch.compile(lambda x: x + 1)(torch.zeros(2)).sum() == 2)
    except Exception:  # whatever the toolchain lacks
        return False


@every
@pytest.mark.filterwarnings("ignore::Warning")
def test_in_a_traced_training_step(name, make_batch):
    """The loss inside what torch.compile takes apart: graph breaks are allowed, another number is not."""
    compare_compiled(name, make_batch(), backend="aot_eager")


@pytest.mark.filterwarnings("ignore::Warning")
def test_in_a_compiled_training_step(make_batch):
    if not compiler_works():
        pytest.skip("no C++ compiler for torch.compile")
    compare_compiled("pearson", make_batch(), backend="inductor")


def compare_compiled(name, batch, backend):
    function, scores = bind(name, batch)
    torch._dynamo.reset()
    weight = torch.eye(scores.shape[1])

    def step(scores, weight):
        return function(scores @ weight).sum()

    def slope_of(step):
        at = weight.clone().requires_grad_()
        value = step(scores, at)
        return value.detach(), torch.autograd.grad(value, at)[0]

    expected, found = slope_of(step), slope_of(torch.compile(step, backend=backend))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)
