"""Two tissues with the same signal, measured differently.

    x in [0, 1],   count_1 ~ NB(mean mu(x), size r),   count_2 ~ NB(mean scale mu(x) + offset, size r)
    mu(x) = A sin(C x) + B sin(D x) + shift

`paper`: the shift is A + B, the tissues' x are independent, and an imbalanced second tissue comes from a window of a
fifth of [0, 1] drawn anew for every function and seed. `released`: the shift makes the smallest mu of each tissue's
sample 0, both tissues have the same x (the script seeds its generator again for each), and the window always is
[0.2745, 0.4745].

Source: Nishimura et al., STRank, NeurIPS 2025, Table 1; the released code's toy example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agl.papers.strank_synthetic.settings import Case, Protocol
from agl.seeds import seeded

FUNCTIONS = ((0.2, 0.3, 25, 7), (0.25, 0.25, 3, 50), (0.25, 0.25, 15, 32), (0.25, 0.25, 20, 23))  # A, B, C, D
WINDOW = 0.2
RELEASED_WINDOW = 0.2745  # the first draw of the script's generator, less half a window

Floats = NDArray[np.floating[Any]]


def signal(function: int, x: Floats) -> Floats:
    """A sin(C x) + B sin(D x), the order every method is to find.

    >>> float(signal(0, np.zeros(1))[0])
    0.0
    """
    a, b, c, d = FUNCTIONS[function]
    return a * np.sin(c * x) + b * np.sin(d * x)


@dataclass(frozen=True)
class Tissues:
    """Spots of both tissues for every case: `x` and `counts` are `[case, spot]`, `slides [spot]` is 0 or 1."""

    x: Tensor
    counts: Tensor
    slides: Tensor

    @classmethod
    def draw(cls, cases: Sequence[Case], protocol: Protocol, spots: int, purpose: str, device: str = "cpu") -> Tissues:
        """`spots` spots of each tissue for every case; `purpose` names the stream of random numbers."""
        drawn = [_pair(case, protocol, spots, purpose) for case in cases]
        x, counts = (np.stack(part).astype(np.float32) for part in zip(*drawn, strict=True))
        slides = torch.arange(2, device=device).repeat_interleave(spots)
        return cls(torch.from_numpy(x).to(device), torch.from_numpy(counts).to(device), slides)


@dataclass(frozen=True)
class Truth:
    """Uniform x and the noise-free signal there, `[case, spot]` each."""

    x: Tensor
    signal: Tensor

    @classmethod
    def draw(cls, cases: Sequence[Case], spots: int, purpose: str, device: str = "cpu") -> Truth:
        """`spots` spots for every case."""
        x = np.stack([_stream(case, purpose).random(spots) for case in cases]).astype(np.float32)
        true = np.stack([signal(case.function, row.astype(float)) for case, row in zip(cases, x, strict=True)])
        return cls(torch.from_numpy(x).to(device), torch.from_numpy(true).to(device))


def _stream(case: Case, *purpose: str) -> np.random.Generator:
    return seeded(case.seed, "synthetic", case.function, *purpose)


def _pair(case: Case, protocol: Protocol, spots: int, purpose: str) -> tuple[Floats, Floats]:
    """x and counts of both tissues, one after the other."""
    rng = _stream(case, purpose, case.sampling)
    first = rng.random(spots)
    second = first if protocol == "released" else rng.random(spots)
    if case.sampling == "imbalanced":
        drawn = float(_stream(case, "window").uniform(0, 1 - WINDOW))  # the same for training and validation
        second = (RELEASED_WINDOW if protocol == "released" else drawn) + WINDOW * second
    counts = []
    for x, scale, offset in ((first, 1.0, 0.0), (second, case.scale, case.offset)):
        true = signal(case.function, x)
        shift = sum(FUNCTIONS[case.function][:2]) if protocol == "paper" else -true.min()
        mean = scale * (true + shift) + offset
        counts.append(rng.negative_binomial(case.r, case.r / (case.r + mean)))
    return np.concatenate([first, second]), np.concatenate(counts)
