"""Dropout with the draws of torch's own, taken several at a time where the installation compiled native.c.

On a small network on the CPU, drawing which units stay takes as long as its matrix products: torch asks its Mersenne
Twister for one number after another.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from strank import compiled
from strank.losses.analytic import is_transformed

_VERSION = 1  # of the interface in native.c
_WORDS = 624
_BEFORE, _STATE = 24, 8 * _WORDS  # bytes of a generator's state: seed, left, seeded, next; then a word in 8 bytes each


def _load() -> ctypes.CDLL | None:
    found = compiled.load(Path(__file__).with_name("_native"), "agl_dropout_version", _VERSION)
    if found is not None:
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        found.agl_dropout.argtypes = (pointer, pointer, ctypes.c_uint64, ctypes.c_float, pointer, whole)
        found.agl_dropout.restype = None
    return found


library = _load()


class Dropout(nn.Dropout):
    """`nn.Dropout`, the same bits from the same seed.

    >>> _ = torch.manual_seed(0)
    >>> ours = Dropout(0.5)(torch.ones(4))
    >>> _ = torch.manual_seed(0)
    >>> torch.equal(ours, nn.Dropout(0.5)(torch.ones(4)))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Each entry 0 with probability p, else divided by 1 - p; in evaluation mode as it is."""
        plain = input.dtype == torch.float32 and input.is_cpu and input.is_contiguous() and not self.inplace
        if not (self.training and plain and 0 < self.p < 1 and input.numel()) or is_transformed(input) or not serves():
            return super().forward(input)
        return input * kept(input.shape, self.p, torch.default_generator)


def kept(shape: torch.Size, p: float, generator: torch.Generator) -> Tensor:
    """`torch.empty(shape).bernoulli_(1 - p, generator=generator).div_(1 - p)`, from `library`."""
    assert library is not None
    saved = generator.get_state()
    header = saved[8:_BEFORE].view(torch.int32)  # left, seeded, next and its upper half
    words = saved[_BEFORE : _BEFORE + _STATE].view(torch.int64)
    state = words.to(torch.int32)  # the lower halves
    left = int(header[0])
    place = ctypes.c_int64(_WORDS + 1 - left if left > 1 else _WORDS)
    out = torch.empty(shape)
    below = math.ceil((1 - p) * 2.0**53)
    scale = torch.ones(1).div_(1 - p).item()
    library.agl_dropout(state.data_ptr(), ctypes.byref(place), below, scale, out.data_ptr(), out.numel())
    words.copy_(state.to(torch.int64) & 0xFFFFFFFF)
    header[0], header[2] = _WORDS + 1 - place.value, place.value
    generator.set_state(saved)
    return out


@cache
def serves() -> bool:
    """Whether there is a compiled version whose draws are torch's here: on some processors torch takes others."""
    if library is None:
        return False
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    for n in (7, 700):
        wanted = torch.empty(n).bernoulli_(0.7, generator=theirs).div_(0.7)
        if not torch.equal(kept(wanted.shape, 0.3, ours), torch.empty(n).copy_(wanted)):
            return False
    return torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))
