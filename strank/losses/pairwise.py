"""Pairwise losses: which of two spots of a slide has more, by likelihood or by margin."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from strank.groups import check_inputs
from strank.losses import native
from strank.losses.analytic import Outcome, evaluate
from strank.losses.by_pair import PairKernel, partners_for
from strank.losses.inputs import Library, check_number, read_library, usable_spots, wide
from strank.losses.special import sign
from strank.sampling import Partners

Ties = Literal["skip", "released"]


class Binomial(PairKernel):
    """-(c log p + c' log(1 - p)) with p = sigmoid(gap); the slope is total x p - c."""

    def __init__(self, counts: Tensor, library: Library, partners: list[Partners], count_power: float) -> None:
        super().__init__(counts, partners, count_power)
        self.library = library

    @property
    def offset(self) -> Tensor | None:
        return self.library.log

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and native.serves(scores, self.counts, self.offset):
            partners = torch.stack([one.of for one in self.partners])
            return native.pairs(scores, self.counts, partners, self.offset, self.count_power)
        return super().run(scores, parameter, gradient=gradient)

    def terms(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, None]:
        return -(mine * F.logsigmoid(gap) + other * F.logsigmoid(-gap)), None

    def fused(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, Tensor, None]:
        pair = mine + other
        loss = F.softplus(gap, threshold=40).mul_(pair).addcmul_(mine, gap, value=-1)
        return loss, gap.sigmoid_().mul_(pair).sub_(mine), None

    def scale(self, weight: Tensor) -> Tensor:
        pairs = 2 * len(self.partners) * max(1, len(self.counts))  # the released mean runs over both spots of a pair
        return torch.full_like(weight, 1 / pairs)


class _Margin(PairKernel):
    """max(0, margin - sign x gap) with the sign of the difference of counts."""

    def __init__(
        self,
        counts: Tensor,
        library_size: Tensor | None,
        partners: list[Partners],
        count_power: float,
        *,
        margin: float,
        ties: Ties,
    ) -> None:
        super().__init__(counts, partners, count_power)
        self.library_size = library_size
        self.margin = margin
        self.ties = ties

    def compared(self, counts: Tensor) -> Tensor:
        # a quotient, not a product with 1 / l: equal ratios must stay equal
        return counts if self.library_size is None else counts / self.library_size.unsqueeze(1).to(counts.dtype)

    def terms(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, Tensor | None]:
        order = self.order(mine, other)
        return (self.margin - order * gap).clamp(min=0), order.abs() if self.ties == "skip" else None

    def fused(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        order = self.order(mine, other)
        loss = gap.mul_(order).neg_().add_(self.margin).clamp_(min=0)
        return loss, sign(loss).mul_(order).neg_(), order.abs() if self.ties == "skip" else None

    def order(self, mine: Tensor, other: Tensor) -> Tensor:
        """+1 where the reference has more, -1 where it has less; a tie is 0 and left out, or -1 as released."""
        order = sign(mine - other)
        return order if self.ties == "skip" else order.mul_(2).sub_(1).clamp_(-1, 1)

    def scale(self, weight: Tensor) -> Tensor:
        return 1 / weight.clamp(min=1)


def pairwise_nll(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    n_partners: int = 1,
    count_power: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Binomial ranking loss: how a gene's counts in two spots of a slide divide between them.

    .. math:: L_g = -\frac1{2nK} \sum_i \sum_{j \in \pi(i)} m_{ij}^{\gamma-1} (c_i \log p_{ij} + c_j \log(1 - p_{ij})),
              \qquad p_{ij} = \frac{l_i e^{s_i}}{l_i e^{s_i} + l_j e^{s_j}}

    with m the pair's mean count and gamma `count_power`. Every spot is kept as reference i and gets K = `n_partners`
    different partners of its slide, never itself. For large score gaps it is the count-weighted ranking loss.
    The released entropy term is not part of it. A pair without counts and a spot alone in its slide contribute 0.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: integer codes `[spot]`, in any order; None for one slide.
        library_size: `[spot]`, totals over all genes; None for no correction. Spots with 0 take no part.
        n_partners: partners of each spot.
        count_power: 1 is the paper; 0.5 and 0 weaken pairs with many counts.
        generator: draws the partners; None is torch's default generator.

    Returns:
        `[gene]`, nats per spot of a pair; `.mean()` is the mean over spots, both spots of a pair, and genes.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: Nishimura et al., STRank, NeurIPS 2025, PairSTRank and its library-size correction.

    >>> pairwise_nll(torch.zeros(2, 1), torch.tensor([[3], [1]]))  # two pairs of 4 log 2, over 2 * 2
    tensor([1.3863])
    """
    check_inputs(scores, counts, slides, library_size)
    check_number("count_power", count_power, at_least=0)
    library = read_library(library_size, wide(scores.dtype))
    partners = partners_for(scores, slides, n_partners, generator, library.keep)
    return evaluate(Binomial(counts, library, partners, count_power), scores)


def margin_ranking(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    margin: float = 1.0,
    ties: Ties = "skip",
    n_partners: int = 8,
    count_power: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Hinge ranking loss: the spot with more counts should score higher by a margin.

    .. math:: L_g = \frac1{|P_g|} \sum_{(i,j) \in P_g} m_{ij}^{\gamma-1} \max(0, \epsilon - y_{ij} (s_i - s_j)), \qquad
              y_{ij} = \mathrm{sign}(c_i / l_i - c_j / l_j)

    over random pairs of a slide, drawn as in `pairwise_nll`. P_g holds the gene's untied pairs (`ties="skip"`) or all
    pairs (`ties="released"`). A gene without a pair gives exactly 0.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: integer codes `[spot]`, in any order; None for one slide.
        library_size: `[spot]`, totals over all genes; None compares raw counts. Spots with 0 take no part.
        margin: epsilon, in units of the scores. With 0 a constant score is a perfect one.
        ties: "skip" leaves equal counts out; "released" takes them as y = -1, as the released code does.
        n_partners: partners of each spot.
        count_power: 1 leaves pairs alone; below 1 weakens pairs with many counts.
        generator: draws the partners; None is torch's default generator.

    Returns:
        `[gene]`, in units of the scores.

    Raises:
        ValueError, TypeError: shapes or types do not fit, or `ties` is unknown.

    Source: the Rank baseline of STRank (NeurIPS 2025), section 3.

    >>> margin_ranking(torch.tensor([[0.0], [0.25]]), torch.tensor([[0], [2]]))  # 1 - 0.25
    tensor([0.7500])
    """
    check_inputs(scores, counts, slides, library_size)
    check_number("margin", margin, at_least=0)
    check_number("count_power", count_power, at_least=0)
    if ties not in ("skip", "released"):
        raise ValueError(f"Expected ties='skip' or ties='released', received {ties!r}.")
    keep = usable_spots(library_size)
    size = library_size if library_size is None or keep is None else torch.where(keep, library_size, 1)
    partners = partners_for(scores, slides, n_partners, generator, keep)
    return evaluate(_Margin(counts, size, partners, count_power, margin=margin, ties=ties), scores)


def margin_ranking_released(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`margin_ranking` with the released code's settings: margin 0, ties taken as -1, 32 partners.

    Kept as the published baseline; a constant score has zero loss. Arguments and result as in `margin_ranking`.

    >>> margin_ranking_released(torch.zeros(2, 1), torch.tensor([[0], [2]]))
    tensor([0.])
    """
    return margin_ranking(
        scores,
        counts,
        slides=slides,
        library_size=library_size,
        margin=0.0,
        ties="released",
        n_partners=32,
        generator=generator,
    )
