"""What the losses make of raw counts and library sizes before any likelihood."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

TARGET_SUM = 1e4  # scanpy's and the papers' total after normalisation


class Library(NamedTuple):
    """Library sizes as the likelihoods use them; spots without any count take no part."""

    log: Tensor | None  # [spot], 0 where the library is empty
    keep: Tensor | None  # bool [spot]; None where all spots have counts


def read_library(library_size: Tensor | None, dtype: torch.dtype, *, relative: bool = False) -> Library:
    """Log library size, or (`relative`) log of library size / `TARGET_SUM`: a fixed reference, so that a spot's term
    does not depend on which other spots are in the batch."""
    if library_size is None:
        return Library(None, None)
    size, keep = library_size.detach().to(dtype), usable_spots(library_size)
    if relative:
        size = size / TARGET_SUM
    return Library((size if keep is None else torch.where(keep, size, 1.0)).log(), keep)


def usable_spots(library_size: Tensor | None) -> Tensor | None:
    """bool `[spot]`: spots whose library is not empty; None if that is all of them."""
    if library_size is None:
        return None
    return None if bool(library_size.all()) else library_size != 0


def log_target(counts: Tensor, per_spot: Tensor | None, out: Tensor | None = None) -> Tensor:
    """log1p of counts, or of counts times a factor per spot; the last dimension is gene."""
    if per_spot is None:
        return torch.log1p(counts, out=out)
    return torch.log1p(torch.mul(counts, per_spot.unsqueeze(-1), out=out), out=out)


class Normaliser(NamedTuple):
    """What counts are multiplied by before their logarithm is taken."""

    factor: Tensor | None  # [spot]: TARGET_SUM / library size, 0 for an empty spot
    keep: Tensor | None  # bool [spot]; None where all spots have counts


def read_factor(library_size: Tensor | None, dtype: torch.dtype) -> Normaliser:
    """The factor of every spot, and which spots take part."""
    if library_size is None:
        return Normaliser(None, None)
    factor, keep = TARGET_SUM / library_size.detach().to(dtype), usable_spots(library_size)
    return Normaliser(factor if keep is None else torch.where(keep, factor, 0.0), keep)


def list_weight(mean_count: Tensor, count_power: float) -> Tensor:
    """A list's mean count per spot to the power `count_power` - 1; 0 for a list without counts."""
    if count_power == 1:
        return torch.ones_like(mean_count)
    some = mean_count > 0
    return torch.where(some, torch.where(some, mean_count, 1.0) ** (count_power - 1), 0.0)


def check_number(name: str, value: float, *, at_least: float) -> None:
    """A plain finite number in range, or an error that says so."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Expected a number for {name}, received {value!r}.")
    if not at_least <= value < float("inf"):
        raise ValueError(f"Expected {name} of at least {at_least:g}, received {value!r}.")


def above_zero(name: str, value: float) -> None:
    """A finite number above 0, or an error that says so."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected a number for {name}, received {value!r}.")
    if not 0 < value < float("inf"):
        raise ValueError(f"Expected {name} above 0 and finite, received {value!r}.")


def per_gene(name: str, value: Tensor | float, scores: Tensor) -> Tensor:
    """A positive parameter as a `[gene]` tensor in the dtype of accumulation."""
    dtype = wide(scores.dtype)
    if not isinstance(value, Tensor):
        above_zero(name, value)
    tensor = value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=dtype, device=scores.device)
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) not in (1, scores.shape[1])):
        raise ValueError(
            f"Expected {name} as a number or of shape [gene] = ({scores.shape[1]},), received {tuple(tensor.shape)}."
        )
    return tensor.to(dtype).expand(scores.shape[1])


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to accumulate in: float32 at least."""
    return torch.float64 if dtype == torch.float64 else torch.float32
