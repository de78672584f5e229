"""Patches as tissue could have lain under the microscope: mirrored and turned, on whatever device they are.

The draws are NumPy's and made for a whole batch, whoever holds which of its patches: every device, every number of
workers and of processes sees the same pictures.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agl.data.batches import Batch
from agl.errors import DataError

TRANSPOSE, UPSIDE_DOWN, LEFT_RIGHT = 4, 2, 1


class Augmentation(Protocol):
    """A batch with its inputs changed; `held` are the spots of the batch whose inputs it has."""

    def __call__(self, batch: Batch, rng: np.random.Generator, held: slice = slice(None)) -> Batch: ...


def none(batch: Batch, rng: np.random.Generator, held: slice = slice(None)) -> Batch:
    """The batch as it is."""
    return batch


def dihedral(batch: Batch, rng: np.random.Generator, held: slice = slice(None)) -> Batch:
    """Every patch by one of the eight flips and quarter turns of a square, each as likely as the others."""
    elements = torch.from_numpy(rng.integers(8, size=len(batch.counts))[held])
    return batch._replace(inputs=turned(batch.inputs, elements.to(batch.inputs.device)))


def turned(patches: Tensor, elements: Tensor) -> Tensor:
    """Patches `[spot, height, width, 3]` by an element of the dihedral group each, int64 `[spot]` from 0 to 7.

    The bits of an element say: swap rows and columns (4), then mirror top and bottom (2), then left and right (1).

    >>> patch = torch.arange(4).reshape(1, 2, 2, 1)
    >>> turned(patch, torch.tensor([6])).flatten().tolist()  # swapped, then upside down: a quarter turn to the left
    [1, 3, 0, 2]
    """
    if patches.ndim != 4 or patches.shape[1] != patches.shape[2]:
        raise DataError(
            "Expected square patches [spot, height, width, 3] for training.augment=dihedral, "
            f"received inputs of shape {list(patches.shape)}. Set data.features=none, or training.augment=none."
        )
    swap, flip, mirror = ((elements & bit).bool()[:, None, None, None] for bit in (TRANSPOSE, UPSIDE_DOWN, LEFT_RIGHT))
    patches = torch.where(swap, patches.transpose(1, 2), patches)
    patches = torch.where(flip, patches.flip(1), patches)
    return torch.where(mirror, patches.flip(2), patches)
