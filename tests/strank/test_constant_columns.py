"""What is constant is one rule for every way to the loss and for the metrics, and what is not has SciPy's r."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import strank

N_GENES = 16


def draw(case: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    """Constants `[gene]` of every size (the first is 0.1), counts and slides of a random number of spots."""
    generator = torch.Generator().manual_seed(case)
    n_spots = int(torch.tensor([3, 7, 64, 255, 256, 257, 1000, 4099])[case % 8])
    size = 10 ** torch.empty(N_GENES, dtype=torch.float64).uniform_(-6, 6, generator=generator)
    levels = size * torch.randn(N_GENES, dtype=torch.float64, generator=generator)
    levels[0] = 0.1
    counts = torch.poisson(torch.full((n_spots, N_GENES), 3.0), generator=generator)
    slides = torch.randint(0, 1 + case % 5, (n_spots,), generator=generator) * 7 - 3
    return levels, counts, slides, generator


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", range(8))
def test_constant_scores_have_no_loss_and_no_gradient(way, case, dtype):
    levels, counts, slides, generator = draw(case)
    levels = levels.clamp(-6e4, 6e4) if dtype == torch.float16 else levels
    library_size = torch.randint(0, 900, (len(counts),), generator=generator)
    scores = levels.to(dtype).expand(counts.shape)
    for size in (None, library_size):
        value, gradient = way(strank.pearson_loss, scores, counts, slides=slides, library_size=size, pooled=case >= 4)
        assert (value == 0).all()
        assert (gradient == 0).all()
    assert strank.pearson(scores, counts, slides=slides).isnan().all()


@pytest.mark.parametrize("case", range(8))
def test_counts_in_proportion_to_the_library_are_constant(way, case):
    _, counts, slides, generator = draw(case)
    library_size = torch.randint(1, 60, (len(counts),), generator=generator) * 100
    proportional = (library_size // 100)[:, None] * torch.arange(1, N_GENES + 1)
    scores = torch.randn(counts.shape, generator=generator)
    value, gradient = way(strank.pearson_loss, scores, proportional, slides=slides, library_size=library_size)
    assert (value == 0).all()
    assert (gradient == 0).all()


def with_range(level: float, steps: int, n_spots: int, generator: torch.Generator) -> torch.Tensor:
    """float32 `[spot, 1]` from `level` up to `steps` units in the last place (of numbers just below 2^k: of eps/2)."""
    bits = torch.tensor(level, dtype=torch.float32).view(torch.int32)
    above = torch.randint(0, steps + 1, (n_spots,), generator=generator, dtype=torch.int32)
    above[0], above[-1] = 0, steps
    return (bits + above).view(torch.float32)[:, None]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 40])
@pytest.mark.parametrize("level", [0.1, 1.0, 1.9999, -7.3, 1e4])
def test_loss_and_metric_agree_on_what_varies(way, level, steps):
    generator = torch.Generator().manual_seed(steps)
    counts = torch.poisson(torch.full((500, 1), 3.0), generator=generator)
    scores = with_range(level, steps, 500, generator)
    value, gradient = way(strank.pearson_loss, scores, counts)
    undefined = strank.pearson(scores, counts.log1p()).isnan()
    assert ((value == 0) & (gradient == 0).all()).item() == undefined.item()
    if not undefined:
        expected = stats.pearsonr(scores[:, 0].double(), counts[:, 0].double().log1p()).statistic
        assert value.item() == pytest.approx(1 - expected, abs=2e-5)


@pytest.mark.parametrize("n_spots", [20, 300, 20_000])
@pytest.mark.parametrize("slides", [1, 2, 3])
def test_one_spot_a_little_higher_is_a_correlation(way, n_spots, slides):
    """Rounded means of the others would drown the difference: the value and the slope are those of float64."""
    generator = torch.Generator().manual_seed(n_spots)
    codes = torch.arange(n_spots) % slides
    counts = torch.poisson(torch.full((n_spots, 1), 3.0), generator=generator)
    scores = torch.full((n_spots, 1), 0.1)
    scores[: 2 * slides] *= 1 + 1e-5
    value, gradient = way(strank.pearson_loss, scores, counts, slides=codes)
    exact = scores.double().requires_grad_()
    y = counts.double().log1p()
    losses = []
    for code in range(slides):
        here = codes == code
        a, b = exact[here] - exact[here].mean(), y[here] - y[here].mean()
        losses.append(1 - (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
    expected = torch.stack(losses).mean()
    (slope,) = torch.autograd.grad(expected, exact)
    assert value.item() == pytest.approx(expected.item(), abs=1e-5)
    np.testing.assert_allclose(gradient.double(), slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))


@pytest.mark.parametrize("bad", [[torch.inf], [-torch.inf], [torch.inf, -torch.inf], [torch.nan]])
def test_infinite_and_missing_scores_are_not_constant(way, bad):
    counts = torch.arange(12.0)[:, None]
    scores = torch.full((12, 1), 0.1)
    scores[: len(bad), 0] = torch.tensor(bad)
    assert way(strank.pearson_loss, scores, counts)[0].isnan().all()
    assert way(strank.pearson_loss, scores.clone().fill_(bad[0]), counts)[0].isnan().all()
