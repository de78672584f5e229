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


def tables(scores: Tensor, counts: Tensor, out: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and counts with genes side by side, and where the gradient goes.

    That is a new table in float32 where none is given, without rows where no gradient is wanted.
    """
    if out is None:
        out = torch.empty((len(scores) if gradient else 0, scores.shape[1]), dtype=torch.float32, device=scores.device)
    return _side_by_side(scores), _side_by_side(counts), out


def _side_by_side(table: Tensor) -> Tensor:
    return table if table.stride(1) == 1 else table.contiguous()


@cache
def _found() -> bool:
    return importlib.util.find_spec("triton") is not None
