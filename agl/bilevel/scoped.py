"""Things switched for a while and switched back: modes, random state, precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws from the default generators start at `seed` inside; outside nothing has happened.

    >>> state = torch.get_rng_state()
    >>> with torch_seeded(0, torch.device("cpu")):
    ...     draw = torch.rand(1)
    >>> torch.equal(state, torch.get_rng_state())
    True
    """
    state = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        torch.default_generator.manual_seed(seed)
        if on_gpu is not None:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)


@contextmanager
def modes(trunk: nn.Module, *, evaluating: bool, running_statistics: bool) -> Iterator[None]:
    """Modules in evaluation mode: batch normalisation by its own switch, all the others by theirs."""
    norms = nn.modules.batchnorm._BatchNorm
    switched = [
        module
        for module in trunk.modules()
        if module.training and (running_statistics if isinstance(module, norms) else evaluating)
    ]
    try:
        for module in switched:
            module.training = False
        yield
    finally:
        for module in switched:
            module.training = True


@contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Full precision, and the attention kernel that has second derivatives."""
    with torch.enable_grad(), torch.autocast(device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield
