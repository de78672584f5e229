"""Which losses are convex in the scores, under the names that configs use, and why the others are not solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import strank
from agl.convex.curved import Curved
from agl.convex.lists import ListCurve
from agl.convex.pairs import Pairs
from agl.convex.rates import Overdispersed, Rates
from agl.convex.spots import FittedSpots
from agl.errors import UserError, did_you_mean
from strank.losses.inputs import above_zero, check_number

LIKELIHOOD_PENALTIES = (
    10.0,
    3.0,
    1.0,
    0.3,
    0.1,
    0.03,
)  # worth trying, per unit of a gene's mass; wide features want the strong ones
SQUARES_PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # worth trying, per spot

REFUSED = {
    "margin_ranking": "its hinge has no curvature to solve with; use loss=pairwise, its smooth form.",
    "margin_ranking_released": "its hinge has no curvature to solve with; use loss=pairwise, its smooth form.",
    "dirichlet_multinomial": "it is not convex in the scores; use loss=listwise, its limit of large concentration.",
}


@dataclass(frozen=True)
class Choice:
    """A loss with its options, ready for data.

    Attributes:
        within: it does not see the level of a slide, so that there is no intercept.
        curved: some genes' loss for Newton's method; None where a closed form serves.
        value: `[gene]` what strank says of scores `[spot, gene]`, given counts, library size and slides.
        standardised: targets are standardised inside slides (closed form only).
        per_spot: the value is a mean over spots.
    """

    name: str
    within: bool
    value: Callable[[Tensor, Tensor, FittedSpots, slice], Tensor]
    curved: Callable[[Tensor, FittedSpots, slice], Curved] | None = None
    pooled: bool = False
    standardised: bool = False
    per_spot: bool = True


def read_loss(name: Any, options: Mapping[str, Any] | None = None) -> Choice:
    """The loss of that name, or one sentence that says why there is none.

    Args:
        name: listwise, pairwise, poisson, negative_binomial, mse or pearson.
        options: as of the functions of strank: `count_power` (listwise, pairwise), `dispersion` (negative_binomial,
            a number or `[gene]`), `centred` (mse), `pooled` (pearson). `n_partners` is accepted and not used: all
            pairs are the mean over every draw of them.

    Raises:
        UserError: not convex, not smooth, or not known.

    >>> read_loss("listwise", {"count_power": 0.5}).within
    True
    >>> read_loss("margin_ranking")
    Traceback (most recent call last):
        ...
    agl.errors.UserError: Expected a loss that is convex and smooth in the scores, received 'margin_ranking': its hinge
    has no curvature to solve with; use loss=pairwise, its smooth form.
    """
    if not isinstance(name, str):
        raise UserError(
            f"Expected the name of a loss that is known to be convex, received {getattr(name, '__name__', name)!r}; "
            f"name one of {', '.join(sorted(_READERS))}, or train a network on a loss of your own: model=mlp."
        )
    if name in REFUSED:
        raise UserError(f"Expected a loss that is convex and smooth in the scores, received {name!r}: {REFUSED[name]}")
    if name not in _READERS:
        raise UserError(
            f"Expected one of the losses known to be convex, received {name!r}.{did_you_mean(name, _READERS)} "
            "Train a network on a loss of your own: model=mlp."
        )
    left = dict(options or {})
    try:
        choice = _READERS[name](left)
    except (TypeError, ValueError) as error:
        raise UserError(f"{str(error).rstrip('.')}; correct the options of loss={name}.") from error
    if left:
        raise UserError(
            f"Expected options that loss={name} has, received {', '.join(map(repr, left))}; leave them out."
        )
    return choice


def default_penalties(name: str) -> tuple[float, ...]:
    """Penalties worth trying, strongest first.

    >>> default_penalties("listwise")
    (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
    """
    return SQUARES_PENALTIES if name in ("mse", "pearson") else LIKELIHOOD_PENALTIES


def _listwise(options: dict[str, Any]) -> Choice:
    power = _count_power(options)
    if options.pop("list_size", None) is not None:
        raise ValueError("Expected list_size=None, for whole slides are the lists where nothing is drawn")
    return Choice(
        "listwise", True, _strank(strank.listwise_nll, count_power=power), lambda c, s, _: ListCurve.of(c, s, power)
    )


def _pairwise(options: dict[str, Any]) -> Choice:
    power = _count_power(options)
    options.pop("n_partners", None)

    def value(scores: Tensor, counts: Tensor, spots: FittedSpots, genes: slice) -> Tensor:
        return Pairs.of(counts.T, spots, power).value(scores.T) / len(spots)

    return Choice("pairwise", True, value, lambda c, s, _: Pairs.of(c, s, power))


def _poisson(options: dict[str, Any]) -> Choice:
    return Choice("poisson", False, _strank(strank.poisson_nll), lambda c, s, _: Rates.of(c, s))


def _negative_binomial(options: dict[str, Any]) -> Choice:
    given = options.pop("dispersion", None)
    if given is None:
        raise ValueError(
            "Expected a known dispersion, for a likelihood is not convex in scores and dispersion together; "
            "give dispersion, a number or one per gene (say, from the counts' mean and variance)"
        )
    if not isinstance(given, (int, float)):
        given = torch.as_tensor(given)
        if given.ndim > 1 or not bool(((given > 0) & torch.isfinite(given)).all()):
            raise ValueError("Expected dispersion above 0 and finite, a number or [gene]")
    else:
        above_zero("dispersion", given)

    def theta(counts: Tensor, genes: slice) -> Tensor:
        """`[gene]` for some genes."""
        if isinstance(given, (int, float)) or given.ndim == 0:
            return counts.new_full((genes.stop - genes.start,), float(given))
        return given.to(counts)[genes]

    def value(scores: Tensor, counts: Tensor, spots: FittedSpots, genes: slice) -> Tensor:
        return strank.negative_binomial_nll(
            scores, counts, library_size=spots.library_size, dispersion=theta(counts, genes)
        )

    return Choice(
        "negative_binomial", False, value, lambda c, spots, genes: Overdispersed.of(c, spots, theta(c, genes))
    )


def _mse(options: dict[str, Any]) -> Choice:
    centred = _flag("centred", options)
    return Choice("mse", centred, _strank(strank.mse, centred=centred))


def _pearson(options: dict[str, Any]) -> Choice:
    if options.pop("count_power", 1.0) != 1:
        raise ValueError("Expected count_power=1, for the quadratic form of loss=pearson weighs all slides alike")
    value = _strank(strank.pearson_loss)  # a pooled one sees one slide
    return Choice("pearson", True, value, pooled=_flag("pooled", options), standardised=True, per_spot=False)


_READERS: dict[str, Callable[[dict[str, Any]], Choice]] = {
    "listwise": _listwise,
    "pairwise": _pairwise,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "mse": _mse,
    "pearson": _pearson,
}


def _strank(loss: Callable[..., Tensor], **options: Any) -> Callable[[Tensor, Tensor, FittedSpots, slice], Tensor]:
    def value(scores: Tensor, counts: Tensor, spots: FittedSpots, genes: slice) -> Tensor:
        return loss(scores, counts, slides=spots.codes, library_size=spots.library_size, **options)

    return value


def _count_power(options: dict[str, Any]) -> float:
    power = options.pop("count_power", 1.0)
    check_number("count_power", power, at_least=0)
    return float(power)


def _flag(name: str, options: dict[str, Any]) -> bool:
    value = options.pop(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"Expected true or false for {name}, received {value!r}")
    return value
