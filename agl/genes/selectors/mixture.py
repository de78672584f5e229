"""A cut-off on a learned mixture of several priors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import norm, rankdata
from torch import Tensor, nn

from agl.errors import UserError
from agl.genes.candidates import Candidates
from agl.genes.selectors.base import Selector, check_positive, check_share, prior_of
from agl.genes.selectors.topk import budgeted_topk
from agl.genes.sets import coexpressed
from agl.registry import as_component
from agl.slots import Prior


class PriorMixture(Selector):
    """Budgeted top-k of a mixture: w = budgeted_topk(Z a, fraction x genes, tau), a = softmax(logits).

    Z `[aux, prior]` holds each prior's normal scores: ranks turned into quantiles of N(0, 1), so that no prior's scale
    or outliers decide; undefined genes come last. phi is the logits and the fraction of genes: a handful of numbers,
    so that the exact forward-mode hypergradient costs little.

    Ours; the cut-off generalises DkGSB (one prior: the same order of genes), the budget is that of `budgeted_topk`.

    Args:
        priors: names of the priors, or `{name: ..., option: ...}`.
        fraction: share of the candidates chosen at the start; None: the share that the gene set `coexpressed` takes.
        tau: temperature, in standard deviations of a prior.
        shares: starting mixture, one positive number per prior; None: the first prior weighs as much as the others
            together, so that with the defaults learning starts near the gene set `coexpressed`.
    """

    scores: Tensor
    tau: Tensor

    def __init__(
        self,
        candidates: Candidates,
        *,
        priors: Sequence[Prior] = ("coexpression", "dispersion", "mean", "moran"),
        fraction: float | None = None,
        tau: float = 0.1,
        shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__(candidates)
        check_positive(tau=tau)
        given = [as_component(prior, "priors") for prior in ([priors] if isinstance(priors, str) else priors)]
        self.priors = tuple(prior.name for prior in given)
        if not given or len({prior.model_dump_json() for prior in given}) != len(given):
            raise UserError(f"Expected different priors, at least one, received {list(self.priors)}.")
        others = len(self.priors) - 1
        start = [max(float(others), 1.0)] + [1.0] * others if shares is None else list(shares)
        if len(start) != len(self.priors):
            raise UserError(f"Expected one share per prior, {len(self.priors)}, received {len(start)}.")
        check_positive(**{f"shares[{i}]": share for i, share in enumerate(start)})
        if fraction is None:
            fraction = max(float(coexpressed(candidates).sum()), 1.0) / max(len(candidates), 1)
        check_share(fraction=fraction)
        columns = [normal_scores(prior_of(candidates, prior.model_dump())) for prior in given]
        self.register_buffer("scores", torch.tensor(np.stack(columns, axis=1), dtype=torch.float32))
        self.register_buffer("tau", torch.tensor(float(tau)))
        self.logits = nn.Parameter(torch.tensor(start).log())
        self.fraction = nn.Parameter(torch.tensor(float(fraction)))

    def forward(self) -> Tensor:
        """Weights `[aux]`; they add up to fraction x genes."""
        mixed = self.scores @ torch.softmax(self.logits, dim=0)
        return budgeted_topk(mixed, self.fraction * self.n_genes, self.tau)

    def project(self) -> None:
        """Keep the fraction between one gene and all but one, where it still has a gradient."""
        if self.n_genes >= 2:
            with torch.no_grad():
                self.fraction.clamp_(1 / self.n_genes, 1 - 1 / self.n_genes)

    def mixture(self) -> dict[str, float]:
        """Share of each prior; they add up to 1."""
        return dict(zip(self.priors, torch.softmax(self.logits.detach(), dim=0).tolist(), strict=True))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Ranks as quantiles of N(0, 1), (rank - 0.5) / n; equal genes share a rank, NaN comes last.

    >>> normal_scores(np.array([5.0, 100.0, 7.0])).round(3)
    array([-0.967,  0.967,  0.   ])
    """
    last = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(norm.ppf((rankdata(last) - 0.5) / max(len(values), 1)), dtype=np.float64)
