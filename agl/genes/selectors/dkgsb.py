"""Differentiable top-k of one prior: the selector of Shiku et al. 2026."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agl.errors import UserError
from agl.genes.candidates import Candidates
from agl.genes.selectors.base import Selector, check_positive, check_share, prior_of, ranks
from agl.slots import Prior


class DkGSB(Selector):
    """One threshold on the normalised rank of a prior: w = sigmoid((threshold - rank) / tau).

    Source: Shiku et al. 2026 (arXiv 2511.18336), eq. 6, on ranks scaled to [0, 1] as in the released code (rank 0 is
    the best gene). Departures: the threshold is kept in [0, 1] (`bounded`); genes of undefined prior rank last, not
    first; equal genes share a rank; k counts the weights of at least 0.5; tau may be annealed.

    Args:
        prior: the prior that ranks the genes, its name or `{name: ..., option: ...}`.
        threshold: where the threshold starts; 0.5 as in the released code.
        tau: temperature, in ranks of [0, 1].
        final_tau: temperature of the last epoch, reached geometrically; None keeps `tau`.
        bounded: keep the threshold in [0, 1]; False lets it go, as the released code does.
    """

    rank: Tensor
    tau: Tensor

    def __init__(
        self,
        candidates: Candidates,
        *,
        prior: Prior = "dispersion",
        threshold: float = 0.5,
        tau: float = 0.01,
        final_tau: float | None = None,
        bounded: bool = True,
    ) -> None:
        super().__init__(candidates)
        check_share(threshold=threshold)
        check_positive(tau=tau)
        if final_tau is not None:
            check_positive(final_tau=final_tau)
            if final_tau > tau:
                raise UserError(f"Expected final_tau of at most tau={tau}, received {final_tau}; annealing cools.")
        self.schedule = (tau, tau if final_tau is None else final_tau)
        self.bounded = bounded
        self.threshold = nn.Parameter(torch.tensor(float(threshold)))
        self.register_buffer("rank", torch.tensor(ranks(prior_of(candidates, prior)), dtype=torch.float32))
        self.register_buffer("tau", torch.tensor(float(tau)))

    def forward(self) -> Tensor:
        """Weights `[aux]`."""
        return torch.sigmoid((self.threshold - self.rank) / self.tau)

    def project(self) -> None:
        """Keep the threshold in [0, 1]."""
        if not self.bounded:
            return
        with torch.no_grad():
            self.threshold.clamp_(0, 1)

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Cool down geometrically from the first epoch to the last."""
        warm, cold = self.schedule
        share = min(max(epoch / max(epochs - 1, 1), 0.0), 1.0)
        self.tau.fill_(warm * (cold / warm) ** share)
