"""Batches as large as the memory allows: halved where it does not, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from agl.errors import DataError

ON_CPU, ON_GPU = 32, 256  # patches at one time, to begin with


def first_size(device: str | torch.device) -> int:
    """Patches of a batch where nobody has asked for a number."""
    return ON_CPU if torch.device(device).type == "cpu" else ON_GPU


def in_batches(run: Callable[[slice], np.ndarray], n: int, size: int) -> Iterator[np.ndarray]:
    """`run` of neighbours, `size` at a time; after a GPU's memory ran out half as many, and so on for the rest.

    Raises:
        DataError: one alone does not fit.

    >>> [part.tolist() for part in in_batches(lambda some: np.arange(5)[some], 5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    start = 0
    while start < n:
        try:
            part = run(slice(start, min(start + size, n)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise DataError(
                    "Expected room for one patch on the GPU, its memory ran out; stop what else uses it, or give "
                    "--device cpu."
                ) from None
            size //= 2
            torch.cuda.empty_cache()
            continue
        yield part
        start += len(part)
