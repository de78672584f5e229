"""Edges where the released losses give NaN or infinity, raise, or fall silent; and bad input."""

from __future__ import annotations

import math

import pytest
import torch

import strank

LOSSES = {
    "mse": (strank.mse, {}),
    "mse_centred": (strank.mse, {"centred": True}),
    "poisson": (strank.poisson_nll, {}),
    "negative_binomial": (strank.negative_binomial_nll, {}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 3}),
    "pairwise_even": (strank.pairwise_nll, {"count_power": 0.0}),
    "margin": (strank.margin_ranking, {}),
    "margin_released": (strank.margin_ranking_released, {}),
    "listwise": (strank.listwise_nll, {}),
    "listwise_even": (strank.listwise_nll, {"count_power": 0.0}),
    "listwise_of_3": (strank.listwise_nll, {"list_size": 3}),
    "dirichlet_multinomial": (strank.dirichlet_multinomial_nll, {}),
    "pearson": (strank.pearson_loss, {}),
    "pearson_pooled": (strank.pearson_loss, {"pooled": True}),
}
RELATIVE = [name for name in LOSSES if name not in ("mse", "mse_centred", "poisson", "negative_binomial")]
every = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def run(way):
    """Value and gradient of a loss by its name, each test in all ways; the same partners and lists at every call."""

    def found(name, scores, counts, slides=None, library_size=None):
        loss, options = LOSSES[name]
        return way(loss, scores, counts, slides=slides, library_size=library_size, **options)

    return found


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_scores_of_ten_thousand_are_finite(run, name, dtype, extreme, batch):
    scores = batch.scores.to(dtype)
    scores[7, 0] = extreme
    scores[8, 1] = -extreme
    value, gradient = run(name, scores, batch.counts.float(), batch.slides, batch.library_size)
    assert value.isfinite().all()
    assert value.dtype == torch.float32
    if dtype != torch.float16 or name != "poisson":  # a rate of 5e8 is beyond half precision, as is its gradient
        assert gradient.isfinite().all()
    assert gradient.dtype == dtype


@every
def test_a_gene_without_counts(run, name, batch):
    value, gradient = run(name, batch.scores, batch.counts, batch.slides, batch.library_size)
    assert gradient.isfinite().all()
    if name in RELATIVE and name != "margin_released":  # there every tie is a comparison
        assert value[-1] == 0
        assert (gradient[:, -1] == 0).all()


@every
def test_empty_spots_take_no_part(run, name, batch):
    value, gradient = run(name, batch.scores, batch.counts, batch.slides, batch.library_size)
    assert (gradient[4] == 0).all()
    scores, counts = batch.scores.clone(), batch.counts.clone()
    scores[4], counts[4] = 50.0, 7  # counts that the library does not hold are none
    changed, _ = run(name, scores, counts, batch.slides, batch.library_size)
    torch.testing.assert_close(changed, value, rtol=0, atol=0)


@every
def test_all_spots_empty(run, name, batch):
    value, gradient = run(name, batch.scores, 0 * batch.counts, batch.slides, 0 * batch.library_size)
    assert (value == 0).all()
    assert (gradient == 0).all()


@every
def test_a_slide_without_counts(run, name, batch):
    counts, library_size = batch.counts.clone(), batch.library_size.clone()
    slide = batch.slides == batch.slides[0]
    counts[slide], library_size[slide] = 0, 0
    value, gradient = run(name, batch.scores, counts, batch.slides, library_size)
    assert value.isfinite().all()
    assert (gradient[slide] == 0).all()


@pytest.mark.parametrize("name", RELATIVE)
def test_a_spot_alone_in_its_slide_contributes_nothing(run, name, batch):
    if name != "pearson_pooled":
        _, gradient = run(name, batch.scores, batch.counts, batch.slides, batch.library_size)
        assert (gradient[2] == 0).all()
    alone, none = run(name, batch.scores[:1], batch.counts[:1])
    assert (alone == 0).all()
    assert (none == 0).all()
    assert strank.coverage(batch.counts, slides=batch.slides).lonely_slides == 1


@every
def test_constant_scores(run, name, batch):
    for level in (0.0, 3.7, 1e4):
        constant = torch.full_like(batch.scores, level).float()
        value, gradient = run(name, constant, batch.counts, batch.slides, batch.library_size)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        if name.startswith("pearson"):
            assert (value == 0).all()
            assert (gradient == 0).all()


@every
def test_constant_counts(run, name, batch):
    value, gradient = run(name, batch.scores, torch.full_like(batch.counts, 3), batch.slides)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    if name.startswith("pearson"):
        assert (value == 0).all()


@every
@pytest.mark.parametrize("where", ["scores", "counts"])
def test_nan_that_came_in_stays_visible_in_its_gene_only(run, way, name, where, batch):
    scores, counts = batch.scores.clone(), batch.counts.clone()
    (scores if where == "scores" else counts)[9, 1] = math.nan
    value, gradient = run(name, scores, counts, batch.slides, batch.library_size)
    assert value[1].isnan()
    if way.name != "differentiable" or not name.startswith("margin"):  # a hinge's own slope exists everywhere
        assert gradient[:, 1].isnan().any()
    assert value[[0, 2, 3]].isfinite().all()
    assert gradient[:, [0, 2, 3]].isfinite().all()


@every
def test_nan_in_a_gene_without_counts_is_not_hidden(run, name, batch):
    scores = batch.scores.clone()
    scores[9, 3] = math.nan
    assert run(name, scores, batch.counts, batch.slides, batch.library_size)[0][3].isnan()


@every
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint8, torch.float32, torch.float16])
def test_counts_of_any_type(run, name, dtype, batch):
    expected = run(name, batch.scores, batch.counts, batch.slides, batch.library_size)
    found = run(name, batch.scores, batch.counts.to(dtype), batch.slides, batch.library_size)
    torch.testing.assert_close(found, expected)


@every
def test_slides_in_any_order_and_memory_layout(run, name, batch):
    if name in ("pairwise", "pairwise_even", "margin", "margin_released", "listwise_of_3"):
        pytest.skip("another order is another draw")
    expected = run(name, batch.scores, batch.counts, batch.slides, batch.library_size)
    order = batch.slides.argsort()
    value, gradient = run(
        name, batch.scores[order].T.contiguous().T, batch.counts[order], batch.slides[order], batch.library_size[order]
    )
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1][order])


@every
def test_half_precision_is_accumulated_in_float32(run, name):
    """4,000 spots: in half precision the sums would be off by percents, and small gradients would underflow."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 2, generator=generator).half()
    counts = torch.poisson(torch.rand(4000, 2, generator=generator), generator=generator)
    slides = torch.arange(4000) % 2
    value, gradient = run(name, scores, counts, slides)
    expected_value, expected = run(name, scores.double(), counts, slides)
    torch.testing.assert_close(value.double(), expected_value.double(), rtol=1e-5, atol=1e-6)
    step = 2.0**-24  # the smallest half
    assert ((gradient.double() - expected).abs() <= expected.abs() * 2e-3 + step).all()


@every
def test_no_spots(run, name):
    value, gradient = run(name, torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert value.tolist() == [0, 0, 0]
    assert gradient.shape == (0, 3)


def test_large_scores_are_a_count_weighted_ranking_loss():
    """softplus(gap) tends to max(0, gap): what is counted against a wrong order weighs as many counts."""
    scores = torch.tensor([[0.0], [300.0]], dtype=torch.float64)
    found = strank.pairwise_nll(scores, torch.tensor([[7], [2]]))
    assert found.item() == pytest.approx(7 * 300 / 2)
    right = strank.pairwise_nll(scores, torch.tensor([[0], [9]]))
    assert right.item() == pytest.approx(0, abs=1e-12)


def test_poisson_is_continued_by_its_tangent():
    scores = torch.tensor([[19.0], [20.0], [21.0], [1e4]], dtype=torch.float64)
    values = torch.cat([strank.poisson_nll(score[None], torch.zeros(1, 1)) for score in scores])
    top = math.exp(20)
    torch.testing.assert_close(values, torch.tensor([math.exp(19), top, 2 * top, top * 9981]).double())


def test_coverage():
    counts = torch.tensor([[1, 0, 2, 0], [1, 0, 2, 3], [4, 1, 0, 0], [0, 0, 0, 0], [9, 9, 9, 0]])
    slides, library_size = torch.tensor([5, 5, 8, 8, 1]), torch.tensor([9, 9, 9, 0, 9])
    found = strank.coverage(counts, slides=slides, library_size=library_size)
    assert (found.n_slides, found.lonely_slides, found.empty_spots) == (3, 1, 1)
    assert found.lists.tolist() == [1, 0, 1, 1]  # slide 8 has one usable spot, slide 1 one spot
    assert found.contrasts.tolist() == [0, 0, 0, 1]
    assert found.undefined.tolist() == [False, True, False, False]
    assert found.constant.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": [[1.0]]}, TypeError, "use torch.as_tensor"),
        ({"scores": torch.ones(4, 2, dtype=torch.long)}, TypeError, "pass the model's output"),
        ({"counts": torch.ones(4, 3)}, ValueError, r"received \(4, 2\) and \(4, 3\); select the same spots"),
        ({"scores": torch.ones(4), "counts": torch.ones(4)}, ValueError, r"one shape \[spot, gene\]"),
        ({"slides": torch.zeros(3).long()}, ValueError, "one value per spot"),
        ({"slides": torch.zeros(4)}, TypeError, r"use slides.long\(\)"),
        ({"library_size": torch.ones(4, 2)}, ValueError, "one value per spot"),
    ],
)
@pytest.mark.parametrize("loss", [loss for loss, options in LOSSES.values() if not options])
def test_bad_shapes_and_types(loss, change, error, message):
    given = {"scores": torch.ones(4, 2), "counts": torch.ones(4, 2)} | change
    with pytest.raises(error, match=message):
        loss(given.pop("scores"), given.pop("counts"), **given)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (strank.listwise_nll, {"count_power": -1}, "count_power of at least 0"),
        (strank.listwise_nll, {"list_size": 1}, "list_size of at least 2"),
        (strank.pairwise_nll, {"n_partners": 0}, "n_partners of at least 1"),
        (strank.pairwise_nll, {"n_partners": 1.5}, "whole number"),
        (strank.pairwise_nll, {"count_power": "1"}, "a number for count_power"),
        (strank.margin_ranking, {"margin": math.inf}, "margin of at least 0"),
        (strank.margin_ranking, {"ties": "drop"}, "ties='skip' or ties='released', received 'drop'"),
        (strank.negative_binomial_nll, {"dispersion": 0.0}, "dispersion above 0"),
        (strank.negative_binomial_nll, {"dispersion": math.inf}, "dispersion above 0 and finite"),
        (strank.negative_binomial_nll, {"dispersion": "a"}, "a number for dispersion"),
        (strank.listwise_nll, {"list_size": 2.5}, "list_size as a whole number or None, received 2.5"),
        (strank.listwise_nll, {"list_size": True}, "list_size as a whole number or None"),
        (strank.negative_binomial_nll, {"dispersion": torch.ones(5)}, r"shape \[gene\] = \(2,\)"),
        (strank.dirichlet_multinomial_nll, {"concentration": -1.0}, "concentration above 0"),
    ],
)
def test_bad_options(loss, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        loss(torch.ones(4, 2), torch.ones(4, 2), **options)


@pytest.mark.parametrize("module", [strank.NegativeBinomialLoss, strank.DirichletMultinomialLoss])
def test_a_learned_parameter_starts_above_zero(module):
    word = "dispersion" if module is strank.NegativeBinomialLoss else "concentration"
    with pytest.raises(ValueError, match=f"{word} above 0 and finite, received 0"):
        module(3, **{word: 0})


def test_two_spots_have_no_correlation_in_the_loss_as_in_the_metric():
    """Two points correlate by 1 or -1 whatever they hold: counted, such slides would only dilute the others."""
    scores = torch.tensor([[0.3], [1.0], [0.0], [4.0], [5.0]], requires_grad=True)
    counts, slides = torch.tensor([[0], [5], [9], [7], [2]]), torch.tensor([0, 0, 0, 1, 1])
    alone = strank.pearson_loss(scores[:3], counts[:3])
    both = strank.pearson_loss(scores, counts, slides=slides)
    assert both.item() == pytest.approx(alone.item(), abs=1e-6)
    assert strank.pearson(scores, counts, slides=slides, per_slide=True).isnan().tolist() == [[False], [True]]
    pair = strank.pearson_loss(scores[3:], counts[3:])
    pair.sum().backward()
    assert pair.item() == 0
    assert not scores.grad.any()
