"""The losses as `torch.nn` modules: options in the constructor, the same call as the functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from strank.losses.correlation import pearson_loss
from strank.losses.inputs import above_zero
from strank.losses.listwise import dirichlet_multinomial_nll, listwise_nll
from strank.losses.pairwise import Ties, margin_ranking, pairwise_nll
from strank.losses.pointwise import mse, negative_binomial_nll, poisson_nll


class _Loss(nn.Module):
    """A function of the package with its options held; called as the function is."""

    function: Callable[..., Tensor]

    def _options(self) -> dict[str, Any]:
        return {}

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return self.function(scores, counts, slides=slides, library_size=library_size, **self._options())


class _DrawingLoss(_Loss):
    """One that draws pairs or lists, from a `generator` given with each call."""

    def forward(
        self,
        scores: Tensor,
        counts: Tensor,
        *,
        slides: Tensor | None = None,
        library_size: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.function(
            scores, counts, slides=slides, library_size=library_size, generator=generator, **self._options()
        )


class MSELoss(_Loss):
    """`strank.mse` as a module.

    >>> MSELoss()(torch.zeros(2, 1), torch.tensor([[0], [1]]))
    tensor([0.2402])
    """

    function = staticmethod(mse)

    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred

    def _options(self) -> dict[str, Any]:
        return {"centred": self.centred}


class PoissonLoss(_Loss):
    """`strank.poisson_nll` as a module.

    >>> PoissonLoss()(torch.zeros(2, 1), torch.tensor([[3], [0]]))
    tensor([1.])
    """

    function = staticmethod(poisson_nll)


class NegativeBinomialLoss(_Loss):
    """`strank.negative_binomial_nll` with a dispersion per gene that is learned: give its parameters to the optimiser.

    >>> loss = NegativeBinomialLoss(n_genes=3, dispersion=2.0)
    >>> loss.dispersion.tolist(), [name for name, _ in loss.named_parameters()]
    ([2.0, 2.0, 2.0], ['log_dispersion'])
    """

    function = staticmethod(negative_binomial_nll)

    def __init__(self, n_genes: int, *, dispersion: float = 1.0) -> None:
        super().__init__()
        above_zero("dispersion", dispersion)
        self.log_dispersion = nn.Parameter(torch.full((n_genes,), float(dispersion)).log())

    @property
    def dispersion(self) -> Tensor:
        """theta `[gene]`; the variance is mu + mu^2 / theta."""
        return self.log_dispersion.exp()

    def _options(self) -> dict[str, Any]:
        return {"dispersion": self.dispersion}


class PairwiseLoss(_DrawingLoss):
    """`strank.pairwise_nll` as a module.

    >>> PairwiseLoss(n_partners=1)(torch.zeros(2, 1), torch.tensor([[3], [1]]))
    tensor([1.3863])
    """

    function = staticmethod(pairwise_nll)

    def __init__(self, *, n_partners: int = 1, count_power: float = 1.0) -> None:
        super().__init__()
        self.n_partners = n_partners
        self.count_power = count_power

    def _options(self) -> dict[str, Any]:
        return {"n_partners": self.n_partners, "count_power": self.count_power}


class MarginRankingLoss(_DrawingLoss):
    """`strank.margin_ranking` as a module.

    >>> MarginRankingLoss()(torch.tensor([[0.0], [0.25]]), torch.tensor([[0], [2]]))
    tensor([0.7500])
    """

    function = staticmethod(margin_ranking)

    def __init__(
        self, *, margin: float = 1.0, ties: Ties = "skip", n_partners: int = 8, count_power: float = 1.0
    ) -> None:
        super().__init__()
        self.margin = margin
        self.ties: Ties = ties
        self.n_partners = n_partners
        self.count_power = count_power

    def _options(self) -> dict[str, Any]:
        return {
            "margin": self.margin,
            "ties": self.ties,
            "n_partners": self.n_partners,
            "count_power": self.count_power,
        }


class ListwiseLoss(_DrawingLoss):
    """`strank.listwise_nll` as a module.

    >>> ListwiseLoss(count_power=0.5)(torch.zeros(2, 1), torch.tensor([[3], [1]]))  # 4 log 2 / 2 / sqrt(2)
    tensor([0.9803])
    """

    function = staticmethod(listwise_nll)

    def __init__(self, *, count_power: float = 1.0, list_size: int | None = None) -> None:
        super().__init__()
        self.count_power = count_power
        self.list_size = list_size

    def _options(self) -> dict[str, Any]:
        return {"count_power": self.count_power, "list_size": self.list_size}


class DirichletMultinomialLoss(_Loss):
    """`strank.dirichlet_multinomial_nll` with a concentration per gene that is learned.

    >>> DirichletMultinomialLoss(n_genes=1)(torch.zeros(2, 1), torch.tensor([[1], [0]])).detach()
    tensor([0.3466])
    """

    function = staticmethod(dirichlet_multinomial_nll)

    def __init__(self, n_genes: int, *, concentration: float = 100.0, count_power: float = 1.0) -> None:
        super().__init__()
        above_zero("concentration", concentration)
        self.log_concentration = nn.Parameter(torch.full((n_genes,), float(concentration)).log())
        self.count_power = count_power

    @property
    def concentration(self) -> Tensor:
        """kappa `[gene]`; the larger, the closer to a multinomial."""
        return self.log_concentration.exp()

    def _options(self) -> dict[str, Any]:
        return {"concentration": self.concentration, "count_power": self.count_power}


class PearsonLoss(_Loss):
    """`strank.pearson_loss` as a module.

    >>> PearsonLoss()(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0], [9], [9]]))
    tensor([0.])
    """

    function = staticmethod(pearson_loss)

    def __init__(self, *, pooled: bool = False, count_power: float = 1.0) -> None:
        super().__init__()
        self.pooled = pooled
        self.count_power = count_power

    def _options(self) -> dict[str, Any]:
        return {"pooled": self.pooled, "count_power": self.count_power}
