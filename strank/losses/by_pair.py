"""The fast path of losses over pairs of spots: every spot is the reference once for each partner drawn in its slide."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from strank.losses.analytic import Kernel, Outcome, Scratch, block_for, columns
from strank.losses.inputs import list_weight, wide
from strank.sampling import Partners, draw_partners


class PairKernel(Kernel):
    """Sums a loss of the score difference over the pairs; subclasses say which loss.

    Args:
        counts: `[spot, gene]`, any numeric dtype.
        partners: one entry for each partner of a spot.
        count_power: each pair is weighted by its mean count to the power `count_power` - 1.
    """

    ignores_shifts = True

    def __init__(self, counts: Tensor, partners: list[Partners], count_power: float) -> None:
        self.counts = counts
        self.partners = partners
        self.count_power = count_power
        self.any_lonely = bool(partners[0].lonely.any())

    def compared(self, counts: Tensor) -> Tensor:
        """What the two spots of a pair are compared by: the counts, or something made of them."""
        return counts

    @property
    def offset(self) -> Tensor | None:
        """`[spot]`, added to the scores before gaps are taken."""
        return None

    @abstractmethod
    def terms(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, Tensor | None]:
        """Loss and weight (None: 1) of pairs, given the score gap and what is compared; differentiable in the gap."""

    @abstractmethod
    def fused(self, gap: Tensor, mine: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss, its slope in the gap, weight; may overwrite the gap."""

    @abstractmethod
    def scale(self, weight: Tensor) -> Tensor:
        """What the sum over pairs is multiplied by, `[gene]`, given the sum of weights."""

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        n_spots, n_genes = scores.shape
        dtype = wide(scores.dtype)
        value = torch.empty(n_genes, dtype=dtype, device=scores.device)
        weight = torch.empty_like(value)
        table = torch.empty(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        scratch = Scratch(dtype, scores.device)
        for genes in columns(4 * n_spots, n_genes, block_for(scores.device)):  # more arrays at work, so smaller blocks
            shape = (n_spots, genes.stop - genes.start)
            s = scratch.get("scores", *shape)
            if self.offset is None:
                s.copy_(scores[:, genes])
            else:
                torch.add(scores[:, genes].to(dtype), self.offset.unsqueeze(1), out=s)
            c = self.counts[:, genes].to(dtype)
            mine = self.compared(c)
            loss_sum, weight_sum = torch.zeros_like(value[genes]), torch.zeros_like(value[genes])
            for nth, partner in enumerate(self.partners):
                gap = scratch.gather(s, partner.of, scratch.get("gap", *shape))
                torch.sub(s, gap, out=gap)
                other = scratch.gather(mine, partner.of, scratch.get("other", *shape))
                loss, slope, pair_weight = self.fused(gap, mine, other)
                for factor in self._factors(c, partner, pair_weight):
                    loss, slope = loss.mul_(factor), slope.mul_(factor)
                loss_sum += loss.sum(0)
                weight_sum += self._weight_sum(pair_weight, partner)
                if table is not None:
                    back = scratch.gather(slope, partner.inverse, scratch.get("other", *shape))
                    if nth:
                        table[:, genes].add_(slope.sub_(back))
                    else:
                        torch.sub(slope, back, out=table[:, genes])
            value[genes], weight[genes] = loss_sum, weight_sum
        scale = self.scale(weight)
        return Outcome(value * scale, scale, table)

    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        dtype = wide(scores.dtype)
        s, c = self._shifted(scores.to(dtype)), self.counts.to(dtype)
        mine = self.compared(c)
        value = weight = s.new_zeros(s.shape[1])
        for partner in self.partners:
            gap = s - s.index_select(0, partner.of)
            loss, pair_weight = self.terms(gap, mine, mine.index_select(0, partner.of))
            for factor in self._factors(c, partner, pair_weight):
                loss = loss * factor
            value = value + loss.sum(0)
            weight = weight + self._weight_sum(pair_weight, partner)
        return value * self.scale(weight)

    def _shifted(self, scores: Tensor) -> Tensor:
        return scores if self.offset is None else scores + self.offset.unsqueeze(1)

    def _factors(self, counts: Tensor, partner: Partners, weight: Tensor | None) -> list[Tensor]:
        factors = [] if weight is None else [weight]
        if self.count_power != 1:
            mean = (counts + counts.index_select(0, partner.of)) / 2
            factors.append(list_weight(mean, self.count_power))
        if self.any_lonely:
            factors.append((~partner.lonely).unsqueeze(1).to(counts.dtype))
        return factors

    def _weight_sum(self, weight: Tensor | None, partner: Partners) -> Tensor:
        paired = ~partner.lonely
        if weight is None:
            return paired.sum()
        return (weight * paired.unsqueeze(1) if self.any_lonely else weight).sum(0)


def partners_for(
    scores: Tensor,
    slides: Tensor | None,
    n_partners: int,
    generator: torch.Generator | None,
    keep: Tensor | None,
) -> list[Partners]:
    """Partners on the device of the scores; a batch of one slide draws the same whether slides are given or not."""
    if isinstance(n_partners, bool) or not isinstance(n_partners, int):
        raise TypeError(f"Expected n_partners as a whole number, received {n_partners!r}.")
    drawn = draw_partners(slides, len(scores), n_partners, generator, keep=keep)
    return [Partners(*(tensor.to(scores.device) for tensor in one)) for one in drawn]
