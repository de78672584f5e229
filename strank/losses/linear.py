r"""The losses of a linear head, from features instead of scores: no table `[spot, gene]` is ever stored.

`linear_listwise_nll(features, weight, bias, counts)` is `listwise_nll(linear(features, weight, bias), counts)`, with
gradients for features, weight and bias; memory is that of one tile (all spots, some genes), counts may stay sparse.
The gradients are found together with the values, in three matrix products. They hold for a sum or mean of what is
returned; where every gene's loss is multiplied by a number of its own afterwards, those of the features are computed
once more: give such numbers as `gene_weights` instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from strank.losses.all_pairs import AllPairs
from strank.losses.by_pair import partners_for
from strank.losses.correlation import Pearson
from strank.losses.inputs import check_number, read_factor, read_library, wide
from strank.losses.linear_inputs import NO_COUNTS, Given
from strank.losses.listwise import Multinomial
from strank.losses.pairwise import Binomial
from strank.losses.pointwise import Poisson, SquaredError


def linear_listwise_nll(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    counts: Any,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    count_power: float = 1.0,
    gene_weights: Tensor | None = None,
) -> Tensor:
    r"""`strank.listwise_nll` of the scores features weight' + bias, which are never stored.

    .. math:: w_g L_g, \qquad s_{ig} = \sum_k x_{ik} W_{gk} + b_g

    Args:
        features: `[spot, feature]`, floating point; half precision is accumulated in float32.
        weight: of the head, `[gene, feature]`.
        bias: of the head, `[gene]`, or None.
        counts: raw counts `[spot, gene]`: a dense tensor of any numeric dtype, or compressed sparse rows of torch or
            SciPy, of which a tile at a time is laid out.
        slides, library_size, count_power: as in `strank.listwise_nll`.
        gene_weights: w `[gene]`, 0 or more, held fixed. A gene of weight 0 gives exactly 0 and costs nothing.

    Returns:
        `[gene]`, w times nats per spot. It can be differentiated twice, at the price of tables `[spot, gene]`.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: Wijmans et al., Cut Your Losses, ICLR 2025, fuse a head with the softmax over classes; here over spots.

    >>> x, w = torch.ones(2, 3), torch.zeros(1, 3, requires_grad=True)
    >>> linear_listwise_nll(x, w, None, torch.tensor([[3], [1]]).to_sparse_csr())  # 4 log 2 / 2
    tensor([1.3863], grad_fn=<_FusedBackward>)
    """
    check_number("count_power", count_power, at_least=0)
    given = Given.of(features, weight, bias, counts, slides, library_size, gene_weights)
    library = read_library(library_size, wide(features.dtype))
    return given.losses(Multinomial(NO_COUNTS, slides, library, count_power))


def linear_pairwise_nll(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    counts: Any,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    n_partners: int | None = None,
    count_power: float = 1.0,
    generator: torch.Generator | None = None,
    gene_weights: Tensor | None = None,
) -> Tensor:
    r"""`strank.pairwise_nll` of the scores features weight' + bias, by default over all pairs of a slide.

    .. math:: w_g L_g, \qquad L_g = -\frac1n \sum_k \frac1{n_k - 1} \sum_{i \ne j \in k} m_{ij}^{\gamma-1}
              c_i \log p_{ij}

    the mean of `strank.pairwise_nll` over every draw of partners. Its work grows with a spot's counts times the spots
    of its slide; that of partners is as there, drawn once for all genes.

    Args:
        features, weight, bias, counts, gene_weights: as in `linear_listwise_nll`.
        slides, library_size, count_power: as in `strank.pairwise_nll`.
        n_partners: partners of each spot; None for all others of its slide.
        generator: draws the partners; None is torch's default generator. Not used for all pairs.

    Returns:
        `[gene]`, w times nats per spot of a pair.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: PairSTRank (Nishimura et al., NeurIPS 2025) without its draw.

    >>> linear_pairwise_nll(torch.ones(2, 3), torch.zeros(1, 3), None, torch.tensor([[3], [1]]))  # 4 log 2 / 2
    tensor([1.3863])
    """
    check_number("count_power", count_power, at_least=0)
    given = Given.of(features, weight, bias, counts, slides, library_size, gene_weights)
    library = read_library(library_size, wide(features.dtype))
    if n_partners is None:
        return given.losses(AllPairs(NO_COUNTS, slides, library, count_power))
    partners = partners_for(features, slides, n_partners, generator, library.keep)
    return given.losses(Binomial(NO_COUNTS, library, partners, count_power))


def linear_pearson_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    counts: Any,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    pooled: bool = False,
    count_power: float = 1.0,
    gene_weights: Tensor | None = None,
) -> Tensor:
    """`strank.pearson_loss` of the scores features weight' + bias, which are never stored.

    Args:
        features, weight, bias, counts, gene_weights: as in `linear_listwise_nll`.
        slides, library_size, pooled, count_power: as in `strank.pearson_loss`.

    Returns:
        `[gene]`, w times 1 - r.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    >>> x, counts = torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0], [9], [9]])
    >>> linear_pearson_loss(x, torch.ones(1, 1), None, counts).abs().round(decimals=4)
    tensor([0.])
    """
    check_number("count_power", count_power, at_least=0)
    given = Given.of(features, weight, bias, counts, slides, library_size, gene_weights)
    factor, keep = read_factor(library_size, wide(features.dtype))
    groups = None if pooled else slides
    return given.losses(Pearson(NO_COUNTS, groups, keep, factor, count_power))


def linear_poisson_nll(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    counts: Any,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    gene_weights: Tensor | None = None,
) -> Tensor:
    """`strank.poisson_nll` of the scores features weight' + bias, which are never stored.

    Args:
        features, weight, bias, counts, gene_weights: as in `linear_listwise_nll`.
        slides: accepted for a uniform call; not used.
        library_size: as in `strank.poisson_nll`.

    Returns:
        `[gene]`, w times nats per spot.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    >>> linear_poisson_nll(torch.ones(2, 3), torch.zeros(1, 3), None, torch.tensor([[3], [0]]))  # rate 1
    tensor([1.])
    """
    given = Given.of(features, weight, bias, counts, slides, library_size, gene_weights)
    library = read_library(library_size, wide(features.dtype), relative=True)
    return given.losses(Poisson(NO_COUNTS, library))


def linear_mse(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    counts: Any,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    centred: bool = False,
    gene_weights: Tensor | None = None,
) -> Tensor:
    """`strank.mse` of the scores features weight' + bias, which are never stored.

    Args:
        features, weight, bias, counts, gene_weights: as in `linear_listwise_nll`.
        slides, library_size, centred: as in `strank.mse`.

    Returns:
        `[gene]`, w times squared log counts.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    >>> linear_mse(torch.ones(2, 3), torch.zeros(1, 3), None, torch.tensor([[0], [1]]))  # (log 2)^2 / 2
    tensor([0.2402])
    """
    given = Given.of(features, weight, bias, counts, slides, library_size, gene_weights)
    factor, keep = read_factor(library_size, wide(features.dtype))
    groups = slides if centred else None
    return given.losses(SquaredError(NO_COUNTS, groups, keep, factor, centred))
