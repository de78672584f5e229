"""The networks' forward and backward pass compiled from native.c; lines.py is the reference and serves without it."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from agl.papers.strank_synthetic.points import Points
from strank import compiled

_VERSION = 1  # of the interface in native.c
_POINTER, _WHOLE = ctypes.c_void_p, ctypes.c_int64
_PARAMETERS = ("w", "b", "W", "c", "v", "d")


class _Networks(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in _PARAMETERS),
        *((f"{name}_", _POINTER) for name in _PARAMETERS),
        ("order", _POINTER),
        *((name, _WHOLE) for name in ("units", "lines", "spots")),
    )


class _Table(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("run", _WHOLE), ("spot", _WHOLE))


def _load() -> ctypes.CDLL | None:
    found = compiled.load(Path(__file__).with_name("_native"), "agl_networks_version", _VERSION)
    if found is not None:
        found.agl_networks_room.argtypes, found.agl_networks_room.restype = (_POINTER,), _WHOLE
        for function in (found.agl_networks_forward, found.agl_networks_backward):
            function.argtypes = (_POINTER, _POINTER, _POINTER, _Table, _WHOLE, _WHOLE, _POINTER)
            function.restype = None
    return found


library = _load()


def serves(parameter: Tensor) -> bool:
    """Whether the compiled version takes such parameters."""
    return library is not None and parameter.device.type == "cpu" and parameter.dtype == torch.float32


class CompiledLines:
    """As `lines.Lines`, for all networks in one call; threads share them, with the same bits."""

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.parameters, self.gradients = parameters, gradients
        runs, units, _ = parameters[2].shape
        self._order = torch.arange(units, dtype=torch.int32).repeat(runs, 1)  # of the knots, kept from step to step

    def forward(self, points: Points) -> Tensor:
        """Scores `[run, spot]` that lie in memory as `[spot, run]`, as the losses like them."""
        runs, spots = points.rising.shape
        scores = points.rising.new_empty(spots, runs).T
        self._call("agl_networks_forward", points, scores)
        return scores

    def backward(self, points: Points, gradient: Tensor) -> None:
        """Write every parameter's gradient from that of the scores `[run, spot]`."""
        self._call("agl_networks_backward", points, gradient)

    def _call(self, name: str, points: Points, table: Tensor) -> None:
        assert library is not None
        function = getattr(library, name)
        rising, order = points.rising.contiguous(), points.order.contiguous()
        (runs, spots), (_, units, lines) = rising.shape, self.parameters[2].shape
        none = [None] * (len(_PARAMETERS) - len(self.parameters))
        tensors = ([tensor.data_ptr() for tensor in some] + none for some in (self.parameters, self.gradients))
        networks = _Networks(*itertools.chain(*tensors), self._order.data_ptr(), units, lines, spots)
        places = _Table(table.data_ptr(), table.stride(0), table.stride(1))
        room = library.agl_networks_room(ctypes.byref(networks))
        workers = max(1, min(torch.get_num_threads(), runs))

        def some(worker: int) -> None:
            begin, end = runs * worker // workers, runs * (worker + 1) // workers
            scratch = torch.empty(room)
            pointers = (rising.data_ptr(), order.data_ptr())
            function(ctypes.byref(networks), *pointers, places, begin, end, scratch.data_ptr())

        if workers == 1:
            some(0)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(some, range(workers)))
