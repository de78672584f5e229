"""What must not change a loss, for any batch that hypothesis thinks of; and how spots are put into lists and pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import strank
from strank.groups import blocks
from strank.sampling import draw_partners, random_lists

pytestmark = pytest.mark.filterwarnings("ignore")
quick = settings(max_examples=40, deadline=None)


@st.composite
def batches(draw):
    """Scores, counts, slides, library sizes: from one spot on, any grouping, empty spots among them."""
    n_spots, n_genes = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    scores = torch.randn(n_spots, n_genes, generator=generator, dtype=torch.float64) * draw(st.sampled_from([0.1, 3.0]))
    rate = torch.full((n_spots, n_genes), draw(st.sampled_from([0.1, 2.0, 40.0])), dtype=torch.float64)
    counts = torch.poisson(rate, generator=generator)
    slides = torch.tensor(draw(st.lists(st.integers(-3, 4), min_size=n_spots, max_size=n_spots)))
    library_size = counts.sum(1) + torch.randint(0, 3, (n_spots,), generator=generator)
    return scores, counts, slides, library_size


SHIFT_FREE = [
    strank.listwise_nll,
    strank.dirichlet_multinomial_nll,
    strank.pearson_loss,
    lambda *a, library_size, **k: strank.mse(*a, centred=True, **k),
    lambda *a, **k: strank.pairwise_nll(*a, generator=torch.Generator().manual_seed(0), **k),
    lambda *a, **k: strank.margin_ranking(*a, generator=torch.Generator().manual_seed(0), **k),
    lambda *a, **k: strank.listwise_nll(*a, list_size=3, generator=torch.Generator().manual_seed(0), **k),
]


@pytest.mark.parametrize("loss", SHIFT_FREE)
@quick
@given(batch=batches())
def test_a_constant_per_slide_and_gene_changes_nothing(loss, batch):
    scores, counts, slides, library_size = batch
    shift = torch.linspace(-7, 9, 8 * scores.shape[1], dtype=torch.float64).view(8, -1)[slides + 3]
    before = loss(scores, counts, slides=slides, library_size=library_size)
    after = loss(scores + shift, counts, slides=slides, library_size=library_size)
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "loss",
    [
        strank.mse,
        strank.poisson_nll,
        strank.negative_binomial_nll,
        strank.listwise_nll,
        strank.dirichlet_multinomial_nll,
        strank.pearson_loss,
    ],
)
@quick
@given(batch=batches(), seed=st.integers(0, 100))
def test_permuting_spots_changes_nothing(loss, batch, seed):
    scores, counts, slides, library_size = batch
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    before = loss(scores, counts, slides=slides, library_size=library_size)
    after = loss(scores[order], counts[order], slides=slides[order], library_size=library_size[order])
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
@quick
@given(batch=batches())
def test_listwise_is_the_sum_over_slides_alone(power, batch):
    scores, counts, slides, library_size = batch
    together = strank.listwise_nll(scores, counts, slides=slides, library_size=library_size, count_power=power)
    alone = torch.zeros_like(together)
    for slide in slides.unique():
        here = slides == slide
        value = strank.listwise_nll(scores[here], counts[here], library_size=library_size[here], count_power=power)
        alone += value * here.sum()
    torch.testing.assert_close(together * len(scores), alone)


@quick
@given(batch=batches())
def test_library_sizes_matter_only_as_ratios(batch):
    scores, counts, slides, library_size = batch
    before = strank.listwise_nll(scores, counts, slides=slides, library_size=library_size)
    after = strank.listwise_nll(scores, counts, slides=slides, library_size=library_size * 8)
    torch.testing.assert_close(after, before)


@quick
@given(batch=batches())
def test_rates_do_not_depend_on_who_else_is_in_the_batch(batch):
    """A pointwise loss of all spots is the mean of the losses of each alone."""
    scores, counts, _, library_size = batch
    for loss in (strank.mse, strank.poisson_nll, strank.negative_binomial_nll):
        together = loss(scores, counts, library_size=library_size)
        rows = range(len(scores))
        alone = [loss(scores[i : i + 1], counts[i : i + 1], library_size=library_size[i : i + 1]) for i in rows]
        torch.testing.assert_close(together, torch.stack(alone).mean(0))


@quick
@given(batch=batches(), power=st.sampled_from([1.0, 0.5, 0.0]), factor=st.sampled_from([2.0, 10.0]))
def test_count_power_is_the_power_of_depth(batch, power, factor):
    """Counts twice as deep weigh 2 to the count_power as much."""
    scores, counts, slides, _ = batch
    for loss in (strank.listwise_nll, strank.pairwise_nll):
        options = {"slides": slides, "count_power": power}
        if loss is strank.pairwise_nll:
            options["generator"] = torch.Generator().manual_seed(0)
        before = loss(scores, counts, **options)
        if loss is strank.pairwise_nll:
            options["generator"] = torch.Generator().manual_seed(0)
        torch.testing.assert_close(loss(scores, factor * counts, **options), factor**power * before)


@quick
@given(batch=batches(), width=st.sampled_from([1, 200, 50_000]))
def test_blocks_hold_every_spot_once_with_its_slide(batch, width):
    _, _, slides, library_size = batch
    keep = library_size > 0
    found = blocks(slides, len(slides), width, keep=None if keep.all() else keep)
    spots = torch.arange(len(slides))
    seen = []
    for block in found:
        rows, codes = block.take(spots), block.take(slides)
        real = torch.ones_like(rows, dtype=torch.bool) if block.real is None else block.real.squeeze(2)
        assert (codes == codes[:, :1]).all()  # padding repeats a spot of the same slide
        assert real.sum(1).tolist() == block.lengths.flatten().tolist()
        seen += rows[real].tolist()
    assert sorted(seen) == spots[keep].tolist()
    assert sum(block.n_lists for block in found) == len(slides[keep].unique())


def test_sorted_slides_are_views_and_small_ones_share_a_block():
    alike = blocks(torch.tensor([0, 0, 1, 1, 5, 5]), 6, 10)
    assert [(block.rows, block.n_lists, block.length) for block in alike] == [(slice(0, 6), 3, 2)]
    uneven = blocks(torch.tensor([0] * 900 + [1] * 3 + [2] * 2), 905, 1000)
    assert [(block.n_lists, block.length) for block in uneven] == [(1, 900), (2, 3)]
    assert uneven[0].rows == slice(0, 900)


def test_slides_of_one_length_with_another_between_are_no_view():
    apart = blocks(torch.tensor([0] * 900 + [1] * 3 + [2] * 900), 1803, 1000)
    assert [(block.n_lists, block.length) for block in apart] == [(2, 900), (1, 3)]
    assert apart[0].rows.tolist() == [*range(900), *range(903, 1803)]


@quick
@given(batch=batches(), size=st.integers(2, 9), seed=st.integers(0, 50))
def test_random_lists_stay_in_their_slide_and_are_even(batch, size, seed):
    slides = batch[2]
    codes = random_lists(slides, len(slides), size, torch.Generator().manual_seed(seed))
    for slide in slides.unique():
        lengths = codes[slides == slide].unique(return_counts=True)[1]
        assert lengths.max() <= size
        assert lengths.max() - lengths.min() <= 1
        assert len(lengths) == -(-int((slides == slide).sum()) // size)
    for code in codes.unique():
        assert len(slides[codes == code].unique()) == 1


@quick
@given(batch=batches(), number=st.integers(1, 4), seed=st.integers(0, 50))
def test_partners(batch, number, seed):
    _, _, slides, library_size = batch
    keep = library_size > 0
    drawn = draw_partners(slides, len(slides), number, torch.Generator().manual_seed(seed), keep=keep)
    spots = torch.arange(len(slides))
    size = torch.stack([((slides == slide) & keep).sum() for slide in slides])
    for partner in drawn:
        assert torch.equal(partner.lonely, (size < 2) | ~keep)
        assert torch.equal(partner.of[partner.lonely], spots[partner.lonely])
        paired = ~partner.lonely
        assert (partner.of[paired] != spots[paired]).all()
        assert torch.equal(slides[partner.of], slides)
        assert keep[partner.of[paired]].all()
        assert torch.equal(partner.of[partner.inverse], spots)
    for spot in spots[size > number].tolist():
        if keep[spot]:
            assert len({int(partner.of[spot]) for partner in drawn}) == number


def test_partners_are_uniform_over_the_slide():
    """Every other spot of a slide of five is the partner a quarter of the time (4 standard errors of 4,000 draws)."""
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_partners(None, 5, 2, generator)[1].of[0].item() for _ in range(4000)]
    frequency = torch.tensor(drawn).bincount(minlength=5) / 4000
    assert frequency[0] == 0
    assert (frequency[1:] - 0.25).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_pairwise_draws_are_unbiased():
    """The mean over draws is the value over all pairs."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    counts = torch.poisson(torch.full((7, 2), 3.0), generator=generator)
    every = strank.pairwise_nll(scores, counts, n_partners=6)
    draws = torch.stack([strank.pairwise_nll(scores, counts, generator=generator) for _ in range(2000)])
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - every).abs() < 4 * error).all()
