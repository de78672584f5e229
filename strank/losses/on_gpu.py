"""Whether a compiled kernel for a GPU is there; Triton is imported when it is first asked for."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor


def serves(scores: Tensor) -> bool:
    """Whether Triton takes these scores: on a CUDA device, of float32 or less, not empty."""
    return scores.is_cuda and scores.dtype != torch.float64 and scores.numel() > 0 and _found()


@cache
def _found() -> bool:
    return importlib.util.find_spec("triton") is not None
