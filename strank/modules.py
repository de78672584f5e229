"""The losses as `torch.nn` modules: options in the constructor, the same call as the functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from strank.losses.correlation import pearson_loss
from strank.losses.inputs import above_zero
from strank.losses.listwise import dirichlet_multinomial_nll, listwise_nll
from strank.losses.pairwise import Ties, margin_ranking, pairwise_nll
from strank.losses.pointwise import mse, negative_binomial_nll, poisson_nll


class MSELoss(nn.Module):
    """`strank.mse` as a module.

    >>> MSELoss()(torch.zeros(2, 1), torch.tensor([[0], [1]]))
    tensor([0.2402])
    """

    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return mse(scores, counts, slides=slides, library_size=library_size, centred=self.centred)


class PoissonLoss(nn.Module):
    """`strank.poisson_nll` as a module.

    >>> PoissonLoss()(torch.zeros(2, 1), torch.tensor([[3], [0]]))
    tensor([1.])
    """

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return poisson_nll(scores, counts, slides=slides, library_size=library_size)


class NegativeBinomialLoss(nn.Module):
    """`strank.negative_binomial_nll` with a dispersion per gene that is learned: give its parameters to the optimiser.

    >>> loss = NegativeBinomialLoss(n_genes=3, dispersion=2.0)
    >>> loss.dispersion.tolist(), [name for name, _ in loss.named_parameters()]
    ([2.0, 2.0, 2.0], ['log_dispersion'])
    """

    def __init__(self, n_genes: int, *, dispersion: float = 1.0) -> None:
        super().__init__()
        above_zero("dispersion", dispersion)
        self.log_dispersion = nn.Parameter(torch.full((n_genes,), float(dispersion)).log())

    @property
    def dispersion(self) -> Tensor:
        """theta `[gene]`; the variance is mu + mu^2 / theta."""
        return self.log_dispersion.exp()

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return negative_binomial_nll(
            scores, counts, slides=slides, library_size=library_size, dispersion=self.dispersion
        )


class PairwiseLoss(nn.Module):
    """`strank.pairwise_nll` as a module.

    >>> PairwiseLoss(n_partners=1)(torch.zeros(2, 1), torch.tensor([[3], [1]]))
    tensor([1.3863])
    """

    def __init__(self, *, n_partners: int = 1, count_power: float = 1.0) -> None:
        super().__init__()
        self.n_partners = n_partners
        self.count_power = count_power

    def forward(
        self,
        scores: Tensor,
        counts: Tensor,
        *,
        slides: Tensor | None = None,
        library_size: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return pairwise_nll(
            scores,
            counts,
            slides=slides,
            library_size=library_size,
            n_partners=self.n_partners,
            count_power=self.count_power,
            generator=generator,
        )


class MarginRankingLoss(nn.Module):
    """`strank.margin_ranking` as a module.

    >>> MarginRankingLoss()(torch.tensor([[0.0], [0.25]]), torch.tensor([[0], [2]]))
    tensor([0.7500])
    """

    def __init__(
        self, *, margin: float = 1.0, ties: Ties = "skip", n_partners: int = 8, count_power: float = 1.0
    ) -> None:
        super().__init__()
        self.margin = margin
        self.ties: Ties = ties
        self.n_partners = n_partners
        self.count_power = count_power

    def forward(
        self,
        scores: Tensor,
        counts: Tensor,
        *,
        slides: Tensor | None = None,
        library_size: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return margin_ranking(
            scores,
            counts,
            slides=slides,
            library_size=library_size,
            margin=self.margin,
            ties=self.ties,
            n_partners=self.n_partners,
            count_power=self.count_power,
            generator=generator,
        )


class ListwiseLoss(nn.Module):
    """`strank.listwise_nll` as a module.

    >>> ListwiseLoss(count_power=0.5)(torch.zeros(2, 1), torch.tensor([[3], [1]]))  # 4 log 2 / 2 / sqrt(2)
    tensor([0.9803])
    """

    def __init__(self, *, count_power: float = 1.0, list_size: int | None = None) -> None:
        super().__init__()
        self.count_power = count_power
        self.list_size = list_size

    def forward(
        self,
        scores: Tensor,
        counts: Tensor,
        *,
        slides: Tensor | None = None,
        library_size: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return listwise_nll(
            scores,
            counts,
            slides=slides,
            library_size=library_size,
            count_power=self.count_power,
            list_size=self.list_size,
            generator=generator,
        )


class DirichletMultinomialLoss(nn.Module):
    """`strank.dirichlet_multinomial_nll` with a concentration per gene that is learned.

    >>> DirichletMultinomialLoss(n_genes=1)(torch.zeros(2, 1), torch.tensor([[1], [0]])).detach()
    tensor([0.3466])
    """

    def __init__(self, n_genes: int, *, concentration: float = 100.0, count_power: float = 1.0) -> None:
        super().__init__()
        above_zero("concentration", concentration)
        self.log_concentration = nn.Parameter(torch.full((n_genes,), float(concentration)).log())
        self.count_power = count_power

    @property
    def concentration(self) -> Tensor:
        """kappa `[gene]`; the larger, the closer to a multinomial."""
        return self.log_concentration.exp()

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return dirichlet_multinomial_nll(
            scores,
            counts,
            slides=slides,
            library_size=library_size,
            concentration=self.concentration,
            count_power=self.count_power,
        )


class PearsonLoss(nn.Module):
    """`strank.pearson_loss` as a module.

    >>> PearsonLoss()(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0], [9], [9]]))
    tensor([0.])
    """

    def __init__(self, *, pooled: bool = False, count_power: float = 1.0) -> None:
        super().__init__()
        self.pooled = pooled
        self.count_power = count_power

    def forward(
        self, scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
    ) -> Tensor:
        return pearson_loss(
            scores,
            counts,
            slides=slides,
            library_size=library_size,
            pooled=self.pooled,
            count_power=self.count_power,
        )
