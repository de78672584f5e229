"""Guards of the torch versions that ordinary batches do not need: each was taken away once, and no other test fell."""

from __future__ import annotations

import gc
import weakref

import pytest
import scipy.stats
import torch
import torch.nn.functional as F

import strank
from strank.losses import analytic, inputs, listwise

NO_PLACE = torch.tensor([0, 0, 1, 1, 2])  # the last spot is alone


@pytest.mark.parametrize("level", [0.0, 100.0, -100.0, 1000.0])
@pytest.mark.parametrize("gap", [1.0, 200.0])
def test_listwise_of_scores_beyond_what_exponentials_hold(way, level, gap):
    """No spot is empty, so that the sweep is tried first; e^200 is beyond float32, and e^-100 is 0 in it."""
    scores = level + torch.tensor([[0.0], [gap], [gap], [0.0], [3 * gap]])
    counts = torch.tensor([[2], [5], [1], [7], [4]])
    value, gradient = way(strank.listwise_nll, scores, counts, slides=NO_PLACE)
    logits = torch.tensor([[0.0, gap], [gap, 0.0]], dtype=torch.float64)
    table = torch.tensor([[2.0, 5.0], [1.0, 7.0]], dtype=torch.float64)
    expected = -(F.log_softmax(logits, 1) * table).sum() / 5
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    slope = table.sum(1, keepdim=True) * F.softmax(logits, 1) - table
    torch.testing.assert_close(gradient[:4, 0].double(), slope.flatten() / 5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_list_of_one_spot_is_exactly_nothing(way, dtype):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 40, generator=generator, dtype=dtype)
    counts = torch.poisson(torch.full((500, 40), 30.0), generator=generator)
    value, gradient = way(strank.listwise_nll, scores, counts, slides=torch.arange(500))
    assert not value.any()  # log(e^s) - s would leave rounding errors
    assert not gradient.any()


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_pearson_weights_lists_by_the_mean_count_of_their_own_spots(way, batch, power):
    """Lists of unequal length share a block, padded with counts that are not theirs."""
    y = torch.log1p(batch.counts)
    expected = torch.zeros(3, dtype=torch.float64)
    rows_of = [rows for code in batch.slides.unique() if (rows := batch.slides == code).sum() > 2]
    for rows in rows_of:
        for gene in range(3):
            r = scipy.stats.pearsonr(batch.scores[rows, gene], y[rows, gene]).statistic
            expected[gene] += (1 - r) * batch.counts[rows, gene].mean() ** (power - 1) / len(rows_of)
    value, _ = way(strank.pearson_loss, batch.scores, batch.counts, slides=batch.slides, count_power=power)
    torch.testing.assert_close(value[:3].double(), expected, rtol=1e-5, atol=1e-6)


def test_pearson_of_two_spots_is_undefined(way):
    """Their correlation is 1 or -1 whatever they hold; the slide with three has r = -1/2."""
    scores = torch.tensor([[5.0], [5.0], [4.0], [0.0], [1.0]])
    counts = torch.tensor([[0], [9], [9], [9], [0]])
    value, gradient = way(strank.pearson_loss, scores, counts, slides=torch.tensor([0, 0, 0, 1, 1]))
    assert value.item() == pytest.approx(1.5, abs=1e-6)
    assert not gradient[3:].any()


@pytest.mark.parametrize("level", [0.1, 3.7, 1e4, 123.456])
@pytest.mark.parametrize("side", ["scores", "counts"])
def test_pearson_takes_rounding_for_no_signal(way, level, side):
    """The mean of equal floats is not always that float: 1.31 came out of a column that does not vary."""
    generator = torch.Generator().manual_seed(0)
    varying, flat = torch.rand(1000, 8, generator=generator), torch.full((1000, 8), level)
    scores, counts = (flat, varying) if side == "scores" else (varying, flat)
    value, gradient = way(strank.pearson_loss, scores, counts, slides=torch.arange(1000) % 3)
    assert not value.any()
    assert not gradient.any()


@pytest.mark.parametrize("seed", range(3))
def test_empty_spots_fill_no_random_list(way, seed):
    """Four usable spots among eight are one list of four, whatever is drawn."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    counts, library = torch.randint(1, 9, (8, 3), generator=generator), torch.tensor([30, 0, 40, 0, 0, 25, 0, 50])
    usable = library > 0
    counts[~usable] = 0
    value, _ = way(strank.listwise_nll, scores, counts, library_size=library, list_size=4, seed=seed)
    logits = scores[usable] + library[usable, None].double().log()
    expected = -(F.log_softmax(logits, 0) * counts[usable]).sum(0) / 8
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_released_margin_is_the_double_loop(way, batch, power):
    """More is +1, all else -1, fewer counts and ties alike; below power 1 a pair without counts weighs nothing."""
    scores, counts = batch.scores[5:11], batch.counts[5:11]
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            label = torch.where(counts[i] > counts[j], 1.0, -1.0)
            mean = (counts[i] + counts[j]) / 2
            weight = torch.ones(4) if power == 1 else torch.where(mean > 0, mean.clamp(min=0.5) ** (power - 1), 0.0)
            expected += weight * (0.7 - label * (scores[i] - scores[j])).clamp(min=0) if i != j else 0
    options = {"margin": 0.7, "ties": "released", "n_partners": 5, "count_power": power}
    value, _ = way(strank.margin_ranking, scores, counts, **options)
    torch.testing.assert_close(value.double(), expected / 30, rtol=1e-5, atol=1e-6)


def test_a_loss_that_nobody_holds_is_gone_at_once(batch):
    """Its gradient is a table as large as the batch: memory that waits for the collector would be the model's."""
    library = inputs.read_library(batch.library_size, torch.float64)
    kernel = listwise.Multinomial(batch.counts, batch.slides, library, 1.0)
    held = weakref.ref(kernel)
    gc.collect()
    gc.disable()
    try:
        value = analytic.evaluate(kernel, batch.scores.clone().requires_grad_())
        del kernel
        assert held() is not None
        del value
        assert held() is None
    finally:
        gc.enable()


def test_a_transform_of_the_parameter_or_of_the_counts_alone(batch):
    """Plain scores, and torch.func at work on something else of the call."""
    theta = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)

    def of_theta(t):
        return strank.negative_binomial_nll(batch.scores, batch.counts, dispersion=t)

    _, slope = torch.func.jvp(of_theta, (theta,), (torch.ones_like(theta),))
    step = 1e-6
    torch.testing.assert_close(
        slope, (of_theta(theta + step) - of_theta(theta - step)) / (2 * step), rtol=1e-5, atol=1e-7
    )

    def of_counts(counts):
        return strank.listwise_nll(batch.scores, counts, slides=batch.slides)

    tables = torch.stack([batch.counts, batch.counts.flip(0)])
    expected = torch.stack([of_counts(table) for table in tables])
    torch.testing.assert_close(torch.func.vmap(of_counts)(tables), expected)
