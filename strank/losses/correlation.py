"""1 - Pearson's r between scores and log counts, within slides or pooled."""

from __future__ import annotations

import torch
from torch import Tensor

from strank.groups import FEWEST_SPOTS, Block, check_inputs, varies
from strank.losses import native
from strank.losses.analytic import Outcome, Scratch, evaluate
from strank.losses.by_list import ListKernel
from strank.losses.inputs import check_number, list_weight, log_target, read_factor, wide


class Pearson(ListKernel):
    """1 - r of every list; the weight counts the lists where r is defined."""

    ignores_shifts = True

    def __init__(
        self, counts: Tensor, groups: Tensor | None, keep: Tensor | None, factor: Tensor | None, count_power: float
    ) -> None:
        super().__init__(counts, groups, keep)
        self.factor = factor
        self.count_power = count_power

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and native.serves(scores, self.counts, self.groups, self.factor):
            return native.pearson(scores, self.counts, self.groups, self.keep, self.factor, self.count_power)
        return super().run(scores, parameter, gradient=gradient)

    def on_gpu(self, scores: Tensor, *, gradient: bool, out: Tensor | None) -> Outcome:
        from strank.losses.triton_pearson import pearson

        return pearson(scores, self.counts, self.lined, self.factor, self.count_power, gradient=gradient, out=out)

    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        x, x_varies = _centred(scores, block)
        y, y_varies = _centred(self.target(counts, block), block)
        xx, yy, xy = (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)
        defined = x_varies & y_varies & (block.lengths[:, 0] >= FEWEST_SPOTS)
        r = xy * torch.where(defined, xx, 1.0).rsqrt() * torch.where(defined, yy, 1.0).rsqrt()
        weight = torch.where(defined, self.list_weight(counts, block), 0.0)
        value = (1 - r) * weight  # a product, so that NaN stays in sight where there is no r
        return value.sum(0), defined.sum(0).to(value.dtype)

    def fused(
        self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch
    ) -> tuple[Tensor, Tensor]:
        x, x_varies = _centred(scores, block, out)
        target = self.target(counts, block, scratch.get("target", *out.shape))
        y, y_varies = _centred(target, block, target)
        product = scratch.get("product", *out.shape)
        xx, yy, xy = (torch.mul(a, b, out=product).sum(1) for a, b in ((x, x), (y, y), (x, y)))
        defined = x_varies & y_varies & (block.lengths[:, 0] >= FEWEST_SPOTS)
        x_scale, y_scale = (torch.where(defined, square, 1.0).rsqrt() for square in (xx, yy))
        r = xy * x_scale * y_scale
        weight = torch.where(defined, self.list_weight(counts, block), 0.0)
        # d(1 - r)/dx = (r x / |x| - y / |y|) / |x|
        x.mul_((weight * r * x_scale * x_scale).unsqueeze(1)).sub_(y.mul_((weight * x_scale * y_scale).unsqueeze(1)))
        return ((1 - r) * weight).sum(0), defined.sum(0).to(r.dtype)

    def target(self, counts: Tensor, block: Block, out: Tensor | None = None) -> Tensor:
        return log_target(counts, None if self.factor is None else block.take(self.factor).to(counts.dtype), out)

    def list_weight(self, counts: Tensor, block: Block) -> Tensor:
        if self.count_power == 1:
            return torch.ones((), dtype=counts.dtype, device=counts.device)
        real = counts if block.real is None else counts * block.real
        return list_weight(real.sum(1) / block.lengths[:, 0], self.count_power)

    def scale(self, weight: Tensor) -> Tensor:
        return 1 / weight.clamp(min=1)


def _centred(values: Tensor, block: Block, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values minus their list's mean (0 for padding), into `out` if given; and whether they vary, `[list, gene]`.

    The mean is taken off twice: the first one is rounded, which a small spread on a large offset would not survive.
    """
    varying = varies(values.amin(1), values.amax(1), values.dtype)  # padding repeats a spot of its list
    if out is None:
        for _ in range(2):
            real = values if block.real is None else values * block.real
            values = values - real.sum(1, keepdim=True) / block.lengths
        return (values if block.real is None else values * block.real), varying
    for _ in range(2):
        block.clear_(values, 0.0)
        values = torch.sub(values, values.sum(1, keepdim=True) / block.lengths, out=out)
    return block.clear_(values, 0.0), varying


def pearson_loss(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    pooled: bool = False,
    count_power: float = 1.0,
) -> Tensor:
    r"""1 - Pearson correlation of scores and log counts, mean over the slides where it is defined.

    .. math:: L_g = \frac1{|D_g|} \sum_{k \in D_g} m_{gk}^{\gamma-1} (1 - r_{gk}), \qquad
              y = \log(1 + c) \text{ or } \log(1 + 10^4 c / l)

    r is taken between scores and y over the spots of slide k, m is the gene's mean count there, gamma `count_power`.
    D_g are the slides with three spots or more where neither y nor the scores are constant (two spots correlate by 1
    or -1 whatever they hold: as in `strank.pearson`, that is undefined); a gene without any gives exactly 0 and
    gradient 0 (see `strank.coverage`). Raw counts are always log-transformed: their own correlation
    follows the few deepest spots.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: integer codes `[spot]`, in any order; None for one slide.
        library_size: `[spot]`, totals over all genes; normalises the counts. Spots with 0 take no part.
        pooled: True ignores the slides, as the STRank and AGL papers do; slide-wide shifts then count as signal.
        count_power: 1 leaves slides alone; below 1 weakens slides with many counts of the gene.

    Returns:
        `[gene]`, between 0 and 2 for `count_power=1`.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: AGL, eq. 5 (pooled over the mini-batch); per slide is the control that STRank's table lacks.

    >>> scores, counts = torch.tensor([[0.0], [1.0], [1.0], [5.0], [5.0], [4.0]]), torch.tensor([[0], [9], [9]] * 2)
    >>> pearson_loss(scores, counts, slides=torch.tensor([0, 0, 0, 1, 1, 1])).round(decimals=4)  # r = 1 and r = -1/2
    tensor([0.7500])
    """
    check_inputs(scores, counts, slides, library_size)
    check_number("count_power", count_power, at_least=0)
    factor, keep = read_factor(library_size, wide(scores.dtype))
    return evaluate(Pearson(counts, None if pooled else slides, keep, factor, count_power), scores)
