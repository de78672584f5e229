"""Special functions at the edges: where the naive formula underflows, overflows or cancels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HIGHEST_LOG_RATE = 20.0  # e^20 = 5e8 counts in a spot; from there on the rate grows in a straight line
LOG2_E = math.log2(math.e)
_PADDING = -1e30


def log_rising(a: Tensor, log_a: Tensor, c: Tensor) -> Tensor:
    """log Gamma(a + c) - log Gamma(a) for a > 0 and c = 0 or c >= 1, also where a underflows or dwarfs c.

    Exactly 0 where c is 0. Large a would cancel in lgamma, so there Stirling's series is subtracted term by term.

    >>> a = torch.tensor([2.0, 1e6])
    >>> log_rising(a, a.log(), torch.tensor([3.0, 1.0])).exp()  # 2 * 3 * 4 and 1e6
    tensor([2.4000e+01, 1.0000e+06])
    """
    some, large = c != 0, a > 64
    safe_c = torch.where(some, c, 1.0)
    small_a = torch.where(large, 1.0, a)
    small = torch.lgamma(small_a + safe_c) - torch.lgamma(small_a + 1) + log_a
    big_a = torch.where(large, a, 64.0)
    stirling = (_stirling(big_a + safe_c) - _stirling(big_a)) - safe_c
    big = safe_c * log_a + (big_a + safe_c - 0.5) * torch.log1p(safe_c / big_a) + stirling
    # 0 * log_a keeps a NaN of the scores in sight where there is no count
    return torch.where(some, torch.where(large, big, small), 0 * log_a.clamp(min=_PADDING))


def _stirling(x: Tensor) -> Tensor:
    return 1 / (12 * x) - 1 / (360 * x**3)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; NaN stays NaN, which torch.sign turns into 0."""
    return x.sign().add_(x * 0)
