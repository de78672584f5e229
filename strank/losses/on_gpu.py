"""Whether a compiled kernel for a GPU is there; Triton is imported when it is first asked for."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor


def serves(scores: Tensor, *others: Tensor | None) -> bool:
    """Whether Triton takes these tensors: all on a CUDA device, the scores of float32 or less and not empty."""
    return (
        scores.is_cuda
        and scores.dtype != torch.float64
        and scores.numel() > 0
        and all(tensor is None or tensor.is_cuda for tensor in others)
        and _found()
    )


@cache
def _found() -> bool:
    return importlib.util.find_spec("triton") is not None
