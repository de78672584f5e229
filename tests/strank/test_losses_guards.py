"""Guards of the torch versions that ordinary batches do not need: each was taken away once, and no other test fell."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
import torch.nn.functional as F

import strank

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
