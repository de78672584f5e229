"""Neural Stain Learning: a gene's expression from nothing but how much of each stain a patch holds.

    OD_p = -log10((I_p + 1) / 256)                       optical density of pixel p, `[channel]`
    c_p  = max(0, OD_p M^-1)                             amounts of stains, M = the stain vectors as rows (9 weights)
    score = a_H mean_p c_pH + a_E mean_p c_pE            two read-out weights

Nine and two are the eleven weights of Dawood et al., "All You Need is Color", ECML-PKDD workshops 2021
(arXiv 2108.10446). Their full text could not be had: this reading of the eleven is ours, and results are not theirs. M
starts at the vectors of Ruifrok and Johnston; its rows are scaled to length 1 inside. A bias beside the two weights
centres the targets of pointwise losses; ranking losses do not feel it.

What of M can be known: H&E pixels lie in a plane of the three channels, so a stain vector is determined only up to
the direction of the third row, and up to mixtures that clip no pixel. `seen_vectors` are the two directions of that
plane in which the model sees one stain alone; they are what the data can correct, and what the report shows.

Every gene has its own M (the paper), or all share one (`shared=True`), and then auxiliary genes help to find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agl.data.images.stain import optical_density, stain_matrix
from agl.errors import UserError
from agl.models.predictor import Predictor

READ_OUT = 2  # hematoxylin and eosin; the third vector takes up what these two cannot explain
AT_ONCE = 1 << 22  # amounts [spot, pixel, gene, stain] in memory at once


def nsl(n_genes: int, *, shared: bool = False, pixels: int = 256) -> nn.Module:
    """The 11-weight stain model on patches: one for every gene, or with one stain matrix for all genes.

    Args:
        shared: one matrix for all genes: a trunk of nine weights.
        pixels: pixels of a patch that are looked at, on a regular grid.

    >>> nsl(3)(torch.zeros(2, 16, 16, 3, dtype=torch.uint8)).shape
    torch.Size([2, 3])
    >>> sum(weight.numel() for weight in nsl(1).parameters()) - 1  # the bias aside
    11
    """
    if not isinstance(pixels, int) or pixels < 1:
        raise UserError(f"Expected a number of pixels of at least 1, received {pixels!r}.")
    if shared:
        return SharedStains(n_genes, pixels)
    return GeneStains(n_genes, pixels)


class _Calibrated(nn.Module):
    """Numbers of the training patches that are no weights: scale of the amounts, plane of the pixels."""

    mean: Tensor
    spread: Tensor
    plane: Tensor
    vectors: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.register_buffer("mean", torch.zeros(READ_OUT))
        self.register_buffer("spread", torch.ones(READ_OUT))
        self.register_buffer("plane", torch.eye(3)[:2])  # [direction, channel], orthonormal

    def calibrate(self, patches: np.ndarray) -> None:
        """Take mean and spread of the amounts with the vectors of the start, and the plane of the pixels."""
        columns = deconvolution(self.vectors.detach().float().view(-1, 3, 3)[0])
        total, amounts = torch.zeros(3, 3, dtype=torch.float64), []
        for part in torch.from_numpy(patches).split(256):
            density = densities(part, self.pixels)
            amounts.append(torch.relu(density @ columns).mean(1))
            flat = density.flatten(0, 1).double()
            total += flat.T @ flat
        found = torch.cat(amounts)
        self.mean.copy_(found.mean(0))
        self.spread.copy_(found.std(0).clamp_min(1e-3))
        self.plane.copy_(torch.linalg.eigh(total).eigenvectors[:, 1:].T)


class SharedStains(Predictor):
    """One stain matrix, which all genes share, and a linear head."""

    def __init__(self, n_genes: int, pixels: int) -> None:
        super().__init__(Amounts(pixels), READ_OUT, n_genes)
        self.reduce = _reducer(pixels)

    def calibrate(self, patches: np.ndarray) -> None:
        """See `_Calibrated.calibrate`."""
        cast(Amounts, self.trunk).calibrate(patches)


class Amounts(_Calibrated):
    """Mean stain amounts of a patch, `[spot, 2]`, in units of their spread over the training patches."""

    def __init__(self, pixels: int) -> None:
        super().__init__(pixels)
        self.vectors = nn.Parameter(stain_matrix())

    def forward(self, images: Tensor) -> Tensor:
        """Amounts of patches uint8 `[spot, height, width, 3]`, or of their pixels `[spot, pixel, 3]`."""
        density = densities(images, self.pixels)
        amounts = torch.relu(density.to(self.vectors.dtype) @ deconvolution(self.vectors))
        return (amounts.mean(1) - self.mean) / self.spread


class GeneStains(_Calibrated):
    """One stain matrix and two read-out weights for every gene; nothing is shared."""

    shares = False

    def __init__(self, n_genes: int, pixels: int) -> None:
        super().__init__(pixels)
        self.reduce = _reducer(pixels)
        self.vectors = nn.Parameter(stain_matrix().repeat(n_genes, 1, 1))
        self.weight = nn.Parameter(torch.empty(n_genes, READ_OUT).uniform_(-0.5, 0.5))
        self.bias = nn.Parameter(torch.zeros(n_genes))

    def forward(self, images: Tensor) -> Tensor:
        """Scores `[spot, gene]`; patches as for `Amounts`."""
        density = densities(images, self.pixels)
        by_gene = deconvolution(self.vectors).permute(1, 0, 2).flatten(1)  # [channel, gene x stain]
        amounts: Tensor = _MeanAmounts.apply(density.to(by_gene.dtype), by_gene)
        amounts = (amounts.view(len(images), -1, READ_OUT) - self.mean) / self.spread
        return (amounts * self.weight).sum(2) + self.bias


class _MeanAmounts(torch.autograd.Function):
    """mean over pixels of max(0, OD D): densities `[spot, pixel, channel]`, D `[channel, column]` -> `[spot, column]`.

    A few pixels at a time, in both directions: [spot, pixel, gene] is never whole in memory.
    """

    @staticmethod
    def forward(ctx: Any, density: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(density, columns)
        total = density.new_zeros(len(density), columns.shape[1])
        for part in _parts(density, columns):
            total += torch.relu_(part @ columns).sum(1)
        return total / density.shape[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        density, columns = ctx.saved_tensors
        gradient = (gradients[0] / density.shape[1]).unsqueeze(1)
        total = torch.zeros_like(columns)
        for part in _parts(density, columns):
            active = (part @ columns > 0) * gradient
            total += part.flatten(0, 1).T @ active.flatten(0, 1)
        return None, total


def deconvolution(vectors: Tensor) -> Tensor:
    """The columns of M^-1 that give hematoxylin and eosin, `[..., channel, 2]`, for vectors `[..., stain, channel]`."""
    return torch.linalg.inv(F.normalize(vectors, dim=-1))[..., :READ_OUT]


def seen_vectors(vectors: Tensor, plane: Tensor) -> Tensor:
    """Hematoxylin and eosin as the model sees them, `[..., 2, channel]`, unit length: in the plane of the pixels, the
    direction without any eosin, and the one without any hematoxylin.

    Args:
        vectors: M, `[..., stain, channel]`.
        plane: two orthonormal directions `[direction, channel]`.

    >>> seen_vectors(torch.eye(3), torch.eye(3)[:2])
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    amounts = plane @ deconvolution(vectors)  # [..., direction, stain]: what a step along each direction adds
    other = amounts.flip(-1)
    turned = torch.stack([-other[..., 1, :], other[..., 0, :]], -1)  # [..., stain, direction]
    seen = turned @ plane
    return F.normalize(torch.where(seen.sum(-1, keepdim=True) < 0, -seen, seen) + 0.0, dim=-1)


def densities(images: Tensor, pixels: int) -> Tensor:
    """Optical density `[spot, pixel, 3]` of patches `[spot, height, width, 3]` or of pixels `[spot, pixel, 3]`, uint8.

    Raises:
        UserError: anything but uint8 pictures.
    """
    if images.dtype != torch.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise UserError(
            f"Expected patches, uint8 [spot, height, width, 3], for model nsl, received {images.dtype} "
            f"{list(images.shape)}. Set data.features=none."
        )
    return optical_density(images if images.ndim == 3 else sample_pixels(images, pixels))


def sample_pixels(images: Any, pixels: int) -> Any:
    """About `pixels` pixels of each patch on a regular grid, `[spot, pixel, 3]`; arrays and tensors.

    >>> sample_pixels(np.zeros((2, 100, 100, 3), np.uint8), 256).shape
    (2, 256, 3)
    """
    side = max(1, round(pixels**0.5))
    rows, columns = (
        np.unique(np.linspace(0, length - 1, min(side, length)).round().astype(int)) for length in images.shape[1:3]
    )
    return images[:, rows][:, :, columns].reshape(len(images), -1, 3)


def _reducer(pixels: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda patches: np.ascontiguousarray(sample_pixels(patches, pixels))


def _parts(density: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    return density.split(max(1, AT_ONCE // max(1, len(density) * columns.shape[1])), dim=1)
