"""Count-aware ranking losses and metrics for gene expression: `[spot, gene]` in, one value per gene out.

>>> import torch, strank
>>> scores = torch.zeros(4, 2, requires_grad=True)  # the model's output for 4 spots and 2 genes
>>> counts, slides = torch.tensor([[3, 0], [1, 0], [2, 1], [0, 1]]), torch.tensor([0, 0, 1, 1])
>>> loss = strank.listwise_nll(scores, counts, slides=slides, library_size=torch.tensor([9, 9, 5, 5]))
>>> loss.mean().backward()
>>> loss.detach(), scores.grad[:, 0]
(tensor([1.0397, 0.3466]), tensor([-0.1250,  0.1250, -0.1250,  0.1250]))
"""

from typing import Any

from strank.groups import Coverage, coverage
from strank.losses.correlation import pearson_loss
from strank.losses.linear import (
    linear_listwise_nll,
    linear_mse,
    linear_pairwise_nll,
    linear_pearson_loss,
    linear_poisson_nll,
)
from strank.losses.listwise import dirichlet_multinomial_nll, listwise_nll
from strank.losses.pairwise import margin_ranking, margin_ranking_released, pairwise_nll
from strank.losses.pointwise import mse, negative_binomial_nll, poisson_nll
from strank.metrics import count_undefined, kendall, mean_squared_error, pearson, spearman, why_undefined
from strank.modules import (
    DirichletMultinomialLoss,
    ListwiseLoss,
    MarginRankingLoss,
    MSELoss,
    NegativeBinomialLoss,
    PairwiseLoss,
    PearsonLoss,
    PoissonLoss,
)
from strank.ranks import average_ranks
from strank.reliability import ceiling

__version__ = "0.1.0"  # of the distribution: agl and pyproject.toml say the same

_STREAMING = ("PearsonMetric", "SpearmanMetric", "KendallMetric", "MeanSquaredErrorMetric")

__all__ = [
    "Coverage",
    "DirichletMultinomialLoss",
    "ListwiseLoss",
    "MSELoss",
    "MarginRankingLoss",
    "NegativeBinomialLoss",
    "PairwiseLoss",
    "PearsonLoss",
    "PoissonLoss",
    "average_ranks",
    "ceiling",
    "count_undefined",
    "coverage",
    "dirichlet_multinomial_nll",
    "kendall",
    "linear_listwise_nll",
    "linear_mse",
    "linear_pairwise_nll",
    "linear_pearson_loss",
    "linear_poisson_nll",
    "listwise_nll",
    "margin_ranking",
    "margin_ranking_released",
    "mean_squared_error",
    "mse",
    "negative_binomial_nll",
    "pairwise_nll",
    "pearson",
    "pearson_loss",
    "poisson_nll",
    "spearman",
    "why_undefined",
    *_STREAMING,
]


def __getattr__(name: str) -> Any:
    """The torchmetrics classes, imported when first asked for: torchmetrics takes seconds."""
    if name in _STREAMING:
        from strank import streaming

        return getattr(streaming, name)
    raise AttributeError(f"module 'strank' has no attribute {name!r}")
