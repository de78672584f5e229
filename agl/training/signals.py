"""Is the outer signal a signal? Hypergradients of several outer steps, compared with each other.

Look-aheads of one outer step share the model, so that they are averaged and the outer step is what counts as one
observation: t = mean / (sd / sqrt(steps)) for every number. What t may be without a signal depends on what was asked.

A few hyper-parameters: each has Student's t with steps - 1 degrees of freedom, and the verdict is "clear" where one of
m passes the two-sided test at 5 % / m (Bonferroni).

A number for each gene: that a derivative differs from zero says nothing about the use of the gene. One of pure noise
costs the trunk something, and look-aheads share the training and the outer spots, so that its t is too wide and lies on
the harmful side. "Clear" is therefore said of genes that help, and the genes that hurt say how many of those there are
by chance; see `agl.bilevel.diagnostics.beyond_chance`.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy import stats
from torch import Tensor

from agl.bilevel.diagnostics import agreement, beyond_chance

FEW = 8  # numbers; more of them are one for each gene
LEVEL = 0.05  # of wrongly calling a few numbers' direction clear
FALSE_DISCOVERIES = 0.1  # share among the genes that are said to help


class Signals:
    """Running mean and spread of the hypergradient over outer steps, a number for each hyper-parameter or gene."""

    def __init__(self) -> None:
        self.look_aheads = 0
        self.steps = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.squares = torch.zeros(0, dtype=torch.float64)  # sum of squared deviations from the mean
        self.refused = ""

    def add(self, hypergradients: Tensor) -> dict[str, float]:
        """Take in one outer step's hypergradients `[look-ahead, number]`; what they say about each other.

        Returns:
            hypergradient: root mean square of their mean; hypergradient_t: the largest |t| of few numbers, the median
            |t| of many (0.67 for noise with many look-aheads); sign_agreement: share of look-aheads on the side of the
            mean, averaged over numbers, 0.5 for noise.
        """
        x = hypergradients.detach().double().cpu()
        if self.steps == 0:
            self.mean, self.squares = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        self.look_aheads += len(x)
        self.steps += 1
        change = x.mean(0) - self.mean  # Welford
        self.mean = self.mean + change / self.steps
        self.squares = self.squares + change * (x.mean(0) - self.mean)
        found = agreement(list(x))
        notes = {"hypergradient": float(found.mean.square().mean().sqrt())}
        if len(x) > 1:
            notes["hypergradient_t"] = _one_number(found.t)
            notes["sign_agreement"] = float(found.sign.nanmean())
        return notes

    def verdict(self) -> dict[str, Any]:
        """For the run's summary: t over the outer steps, how many numbers are beyond chance, and that in words."""
        if self.refused:
            return {"outer_signal": self.refused}
        if self.steps < 2:
            return {}
        t = (self.mean / (self.squares / (self.steps - 1) / self.steps).sqrt()).nan_to_num(0.0)
        if t.numel() <= FEW:
            p = 2 * stats.t.sf(t.abs().numpy(), self.steps - 1)
            discoveries = int((p < LEVEL / max(t.numel(), 1)).sum())
        else:
            discoveries = beyond_chance(-t, FALSE_DISCOVERIES)  # a negative derivative lowers the outer loss
        return {
            "look_aheads": self.look_aheads,
            "hypergradient_t": _one_number(t),
            "discoveries": discoveries,
            "outer_signal": "clear" if discoveries else "indistinguishable from noise",
        }

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        vars(self).update(state)


def _one_number(t: Tensor) -> float:
    size = t.nan_to_num(0.0).abs()  # a hypergradient that is always 0 has no t
    return float(size.max() if t.numel() <= FEW else size.median())
