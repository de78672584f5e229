"""What every selector is: a module whose parameters are phi and whose value is one weight per candidate gene."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from agl import registry
from agl.errors import UserError
from agl.genes.candidates import Candidates
from agl.genes.signal import Signal
from agl.slots import Prior


class Selector(nn.Module):
    """Weights `[aux]` in [0, 1] of the candidate genes.

    A selector must have: `signal`, and `forward() -> weights`, a pure function of parameters and buffers.
    It may have: `observe` (any signal but "hypergradient"), `drawn_from`, `project`, `on_epoch`.
    Everything needed to resume is in `state_dict()`.

    `signal` says what the trainer gives it: "hypergradient" (the gradient of the outer loss is applied to the
    parameters), "influence" (d outer / d weight of every gene), "similarity" (cosine of every gene's gradient with the
    primary genes', on shared features), "losses" (every gene's training loss).
    """

    signal: ClassVar[Signal] = "hypergradient"

    def __init__(self, candidates: Candidates) -> None:
        super().__init__()
        self.n_genes = len(candidates)

    def observe(self, signal: Tensor) -> None:
        """Take in one value per gene `[aux]`; NaN means not measured."""
        raise UserError(
            f"Expected a selector that observes a signal, but {type(self).__name__} learns by the hypergradient; "
            "step its parameters instead of calling observe."
        )

    def drawn_from(self, batches: float) -> None:
        """How many batches without a common spot the spots behind the signal hold; told before training."""

    def project(self) -> None:
        """Bring the parameters back into their range, after an outer step."""

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """An epoch begins; `epoch` counts from 0."""

    def chosen(self) -> Tensor:
        """Genes of weight at least 0.5 `[aux]`, bool."""
        with torch.no_grad():
            return self() >= 0.5

    @property
    def k(self) -> int:
        """How many genes are chosen."""
        return int(self.chosen().sum())

    def _check(self, signal: Tensor) -> Tensor:
        """The observed signal in the state's precision, or an error about its shape."""
        if signal.shape != (self.n_genes,):
            raise UserError(
                f"Expected one value per candidate gene, shape ({self.n_genes},), received {tuple(signal.shape)}; "
                "leave the primary genes out."
            )
        return signal.detach()


def prior_of(candidates: Candidates, prior: Prior) -> np.ndarray:
    """A prior of the candidates `[aux]`; one that is undefined for every gene is an error."""
    if len(candidates) == 0:
        return np.empty(0)
    values = candidates.prior(prior)
    if np.isnan(values).all():
        name = registry.as_component(prior).name
        raise UserError(
            f"Expected the prior {name!r} to be defined for some of the {len(candidates)} candidate genes, "
            "received NaN for all; choose another prior or more training spots."
        )
    return values


def ranks(values: np.ndarray) -> np.ndarray:
    """0 for the best gene, 1 for the worst; equal genes share the mean of their ranks, NaN comes last.

    >>> ranks(np.array([0.3, np.nan, 0.9, 0.5, 0.3])).tolist()
    [0.625, 1.0, 0.0, 0.25, 0.625]
    """
    last = np.where(np.isnan(values), -np.inf, values)
    return (rankdata(-last, method="average") - 1) / max(len(values) - 1, 1)


def check_positive(**values: float) -> None:
    """An error naming the first value that is not a positive number."""
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"Expected {name} above 0, received {value}.")


def check_share(**values: float) -> None:
    """An error naming the first value that is not in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"Expected {name} from 0 to 1, received {value}.")
