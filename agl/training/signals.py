"""Is the outer signal a signal? Hypergradients of several look-aheads, compared with each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agl.bilevel.diagnostics import agreement

CLEAR = 2.0  # standard errors


class Signals:
    """Running mean and spread of the hypergradient over all look-aheads, one number for each hyper-parameter or gene.

    For n look-aheads with hypergradients x: t = mean(x) / (sd(x) / sqrt(n)). A |t| of 2 is the least that anybody
    should call a direction.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.squares = torch.zeros(0, dtype=torch.float64)  # sum of squared deviations from the mean
        self.refused = ""

    def add(self, hypergradients: Tensor) -> dict[str, float]:
        """Take in one outer step's hypergradients `[look-ahead, number]`; what they say about each other.

        Returns:
            hypergradient: root mean square of their mean; hypergradient_t: the largest |t| of this step (the median
            over genes where there are more than 8 numbers); sign_agreement: share of look-aheads on the side of the
            mean, averaged over numbers, 0.5 for noise.
        """
        x = hypergradients.detach().double().cpu()
        if self.n == 0:
            self.mean, self.squares = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        for row in x:  # Welford
            self.n += 1
            change = row - self.mean
            self.mean = self.mean + change / self.n
            self.squares = self.squares + change * (row - self.mean)
        found = agreement(list(x))
        notes = {"hypergradient": float(found.mean.square().mean().sqrt())}
        if len(x) > 1:
            notes["hypergradient_t"] = _one_number(found.t)
            notes["sign_agreement"] = float(found.sign.nanmean())
        return notes

    def verdict(self) -> dict[str, Any]:
        """For the run's summary: t over the whole training, and what it means in words."""
        if self.refused:
            return {"outer_signal": self.refused}
        if self.n < 2:
            return {}
        t = self.mean / (self.squares / (self.n - 1) / self.n).sqrt()
        clear = float((t.abs() >= CLEAR).double().mean())
        few = t.numel() <= 8
        noise = clear == 0 if few else clear < 0.1  # by chance, one gene in twenty is that far out
        words = "indistinguishable from noise" if noise else "clear"
        return {"look_aheads": self.n, "hypergradient_t": _one_number(t), "clear_share": clear, "outer_signal": words}

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {"n": self.n, "mean": self.mean, "squares": self.squares, "refused": self.refused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.n, self.mean, self.squares, self.refused = state["n"], state["mean"], state["squares"], state["refused"]


def _one_number(t: Tensor) -> float:
    size = t.nan_to_num(0.0).abs()  # a hypergradient that is always 0 has no t
    return float(size.max() if t.numel() <= 8 else size.median())
