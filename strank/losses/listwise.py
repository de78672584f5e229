"""Listwise losses: the spots of a slide are one list, and a gene's counts are spread over it."""

from __future__ import annotations

import torch
from torch import Tensor

from strank.groups import PADDING, Block, blocks, check_inputs
from strank.losses import native, sweep
from strank.losses.analytic import Outcome, Scratch, evaluate
from strank.losses.by_list import ListKernel
from strank.losses.inputs import Library, check_number, list_weight, per_gene, read_library, wide
from strank.losses.special import LOG2_E, log_rising
from strank.sampling import random_lists

_FEW = 1 << 15  # elements below which torch's own softmax of one list costs less than preparing ours


class Multinomial(ListKernel):
    """-sum c log softmax(s + offset); the gradient of a list is its total count x softmax - counts."""

    ignores_shifts = True

    def __init__(self, counts: Tensor, groups: Tensor | None, library: Library, count_power: float) -> None:
        super().__init__(counts, groups, library.keep)
        self.offset = library.log
        self.count_power = count_power

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and native.serves(scores, self.counts, self.groups, self.offset):
            return native.multinomial(scores, self.counts, self.groups, self.keep, self.offset, self.count_power)
        found = None
        if self.keep is None and scores.device.type == "cpu" and scores.numel():
            found = sweep.multinomial(
                scores, self.counts, self.groups, self.offset, self.count_power, gradient=gradient
            )
        return super().run(scores, parameter, gradient=gradient) if found is None else found

    def on_gpu(self, scores: Tensor, *, gradient: bool, out: Tensor | None) -> Outcome:
        from strank.losses.triton_lists import multinomial

        return multinomial(scores, self.counts, self.lined, self.offset, self.count_power, gradient=gradient, out=out)

    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, None]:
        if block.real is not None:
            counts = counts * block.real
        lists = -(counts * torch.log_softmax(shifted(scores, block, self.offset), 1)).sum(1)
        if self.count_power != 1:
            lists = lists * list_weight(counts.sum(1) / block.lengths[:, 0], self.count_power)
        return lists.sum(0), None

    def fused(self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch) -> tuple[Tensor, None]:
        if self.offset is not None:
            scores = torch.add(scores, block.take(self.offset).unsqueeze(-1).to(scores.dtype), out=out)
        if block.real is not None:  # gathered, hence ours to write to
            block.clear_(scores, PADDING)
            block.clear_(counts, 0.0)
        torch.sub(scores, scores.amax(1, keepdim=True), out=out)
        dot = torch.mul(counts, out, out=scratch.get("product", *out.shape)).sum(1, keepdim=True)
        out.mul_(LOG2_E).exp2_()  # three times as fast as exp here, and does not crawl on underflow
        mass, depth = out.sum(1, keepdim=True), counts.sum(1, keepdim=True)
        value = depth * mass.log() - dot
        out.mul_(depth / mass).sub_(counts)
        if self.count_power != 1:
            weight = list_weight(depth / block.lengths, self.count_power)
            value = value * weight
            out.mul_(weight)
        return value.sum((0, 1)), None


def shifted(scores: Tensor, block: Block, offset: Tensor | None) -> Tensor:
    """Scores plus log library size, and minus infinity (nearly) for padding."""
    if offset is not None:
        scores = scores + block.take(offset).unsqueeze(-1).to(scores.dtype)
    return scores if block.real is None else torch.where(block.real, scores, PADDING)


def listwise_nll(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    count_power: float = 1.0,
    list_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Multinomial ranking loss: how a gene's counts spread over the spots of a slide.

    .. math:: L_g = -\frac1n \sum_{\text{lists}} m^{\gamma - 1} \sum_i c_i \log p_i, \qquad
              p_i = \frac{l_i e^{s_i}}{\sum_j l_j e^{s_j}}

    with counts c, scores s, library sizes l, mean count m of the list and power gamma; n is the number of spots. Adding
    a constant per slide to a gene's scores changes nothing. A gene without counts gives exactly 0 (see
    `strank.coverage`), a list of one spot too; spots with library size 0 take no part.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: integer codes `[spot]`, in any order; None for one slide.
        library_size: `[spot]`, totals over all genes; None for no correction.
        count_power: 1 is the paper; 0.5 and 0 weaken lists with many counts.
        list_size: None for the whole slide as one list, or N for random lists of at most N spots of a slide.
        generator: draws the random lists; None is torch's default generator.

    Returns:
        `[gene]`, nats per spot; `.mean()` is the mean over spots and genes of the released code.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: Nishimura et al., STRank, NeurIPS 2025, ListSTRank and its library-size correction.

    >>> scores, counts = torch.zeros(2, 1), torch.tensor([[3], [1]])
    >>> listwise_nll(scores, counts)  # 4 log 2 / 2
    tensor([1.3863])
    """
    check_inputs(scores, counts, slides, library_size)
    check_number("count_power", count_power, at_least=0)
    library = read_library(library_size, wide(scores.dtype))
    groups = (
        slides if list_size is None else random_lists(_without(slides, library.keep), len(scores), list_size, generator)
    )
    kernel = Multinomial(counts, groups, library, count_power)
    if scores.numel() < _FEW and not native.serves(scores, counts, groups) and _is_one_list(groups):
        return kernel.value(scores, None)
    return evaluate(kernel, scores)


def dirichlet_multinomial_nll(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    concentration: Tensor | float = 100.0,
    count_power: float = 1.0,
) -> Tensor:
    r"""Over-dispersed list loss: `listwise_nll` whose proportions vary around the softmax.

    .. math:: L_g = \frac1n \sum_{\text{lists}} m^{\gamma-1} \Big[\log\frac{\Gamma(T+\kappa)}{\Gamma(\kappa)}
              - \sum_i \log\frac{\Gamma(c_i + \kappa p_i)}{\Gamma(\kappa p_i)}\Big]

    with the list's total T and concentration kappa (differentiable). As kappa grows it tends to `listwise_nll`; small
    kappa expects bursts. The factor that depends on counts alone is left out, as there.

    Args:
        scores, counts, slides, library_size, count_power: as in `listwise_nll`.
        concentration: kappa > 0, a number or a tensor `[gene]`.

    Returns:
        `[gene]`, nats per spot.

    Source: the Dirichlet-multinomial (Polya) distribution in the place of STRank's multinomial.

    >>> scores, counts = torch.zeros(2, 1), torch.tensor([[1], [0]])
    >>> dirichlet_multinomial_nll(scores, counts, concentration=5.0)  # one count is a coin toss: log 2 / 2
    tensor([0.3466])
    """
    check_inputs(scores, counts, slides, library_size)
    check_number("count_power", count_power, at_least=0)
    dtype = wide(scores.dtype)
    kappa = per_gene("concentration", concentration, scores)
    library = read_library(library_size, dtype)
    value = scores.new_zeros(scores.shape[1], dtype=dtype) + scores[:0].sum(0)
    for block in blocks(slides, *scores.shape, keep=library.keep, device=scores.device):
        part, c = block.take(scores).to(dtype), block.take(counts).to(dtype)
        if block.real is not None:
            c = c * block.real
        log_a = kappa.log() + torch.log_softmax(shifted(part, block, library.log), 1)
        depth = c.sum(1)
        terms = log_rising(kappa.expand_as(depth), kappa.log().expand_as(depth), depth)
        lists = terms - log_rising(log_a.exp(), log_a, c).sum(1)
        value = value + (lists * list_weight(depth / block.lengths[:, 0], count_power)).sum(0)
    return value / max(1, len(scores))


def _is_one_list(groups: Tensor | None) -> bool:
    return groups is None or bool((groups == groups[:1]).all())


def _without(slides: Tensor | None, keep: Tensor | None) -> Tensor | None:
    """Slides with the spots outside `keep` in one slide of their own, so that random lists hold only usable spots."""
    if keep is None:
        return slides
    dense = torch.zeros_like(keep, dtype=torch.long) if slides is None else slides.unique(return_inverse=True)[1]
    return torch.where(keep, dense, -1)
