"""What a solver needs of a smooth convex loss: its gradient in the scores, and how that bends along a direction.

No value is needed. Along a line the slope of a convex function is negative before the minimum and positive behind it,
which says whether a step is too long, and says it without the rounding error of a difference of values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self

from torch import Tensor


class Local(NamedTuple):
    """A loss around some scores, all tables `[gene, spot]`."""

    gradient: Tensor
    curve: Callable[[Tensor], Tensor]  # the Hessian times a direction


class Curved(ABC):
    """Some genes' loss as a function of their scores `[gene, spot]`, summed over spots."""

    mass: Tensor  # [gene] about the curvature a spot; dividing by it makes one penalty mean the same for all genes
    level: Tensor | None = None  # [gene] an intercept to start from; None where the loss does not see a slide's level
    bend: float = 1.0  # curvature of mass-1 scores relative to a weighted variance, for the preconditioner only

    @abstractmethod
    def at(self, scores: Tensor) -> Local:
        """Gradient and curvature at these scores."""

    @abstractmethod
    def narrow(self, genes: Tensor) -> Self:
        """The same for some of the genes (positions or bool)."""


def at_least_some(mass: Tensor) -> Tensor:
    """1 for genes without counts: their loss is flat, or falls for ever, whatever it is divided by."""
    return mass.where(mass > 0, 1.0)
