"""Light through stained tissue: optical density, and its separation into hematoxylin, eosin and a residual.

Beer and Lambert: a layer that holds density c_k of stain k, with absorption vector m_k (one entry per colour
channel), lets through

    I = (I0 + epsilon) 10^(-sum_k c_k m_k) - epsilon,

so optical density is linear in the densities, and separation is one 3x3 product:

    OD = -log10((I + epsilon) / (I0 + epsilon)),        c = OD M^-1,        M = the m_k as rows.

`I0` (255) is the intensity of empty glass; `epsilon` (1 grey level) keeps black finite: OD runs from 0 (white)
to 2.408 (black). The default M is that of Ruifrok and Johnston, "Quantification of histochemical staining by color
deconvolution", Anal Quant Cytol Histol 23 (2001): the vectors that scikit-image also uses in `rgb2hed`.
"""

from __future__ import annotations

import torch
from torch import Tensor

I0 = 255.0
EPSILON = 1.0

# Rows: hematoxylin, eosin, and DAB as the third direction; columns: red, green, blue.
RUIFROK_JOHNSTON = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


def stain_matrix(
    hematoxylin: tuple[float, float, float] | None = None,
    eosin: tuple[float, float, float] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The absorption vectors as rows, `[stain, channel]`: hematoxylin, eosin, residual.

    Without arguments, Ruifrok and Johnston's three published vectors. With both vectors given (of a slide,
    say), each is scaled to length 1 and the residual is their unit normal: what the two cannot explain.

    Raises ValueError when only one vector is given or the two are parallel.

    >>> stain_matrix()[0]
    tensor([0.6500, 0.7000, 0.2900])
    >>> stain_matrix((1, 0, 0), (0, 2, 0))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    if hematoxylin is None and eosin is None:
        return torch.tensor(RUIFROK_JOHNSTON, dtype=dtype)
    if hematoxylin is None or eosin is None:
        raise ValueError("Expected both a hematoxylin and an eosin vector, or neither; received one.")
    first, second = (torch.tensor(v, dtype=torch.float64) for v in (hematoxylin, eosin))
    first, second = first / first.norm(), second / second.norm()
    residual = torch.linalg.cross(first, second)
    if not residual.norm() > 1e-6:
        raise ValueError(f"Expected two different stain vectors, received {hematoxylin} and {eosin}; give two.")
    return torch.stack([first, second, residual / residual.norm()]).to(dtype)


def optical_density(intensity: Tensor, *, i0: float = I0, epsilon: float = EPSILON) -> Tensor:
    """`log10((i0 + epsilon) / (I + epsilon))`, of grey levels 0..`i0`; any shape; uint8 gives float32.

    >>> optical_density(torch.tensor([255.0, 24.6]))
    tensor([0., 1.])
    """
    values = intensity if intensity.is_floating_point() else intensity.float()
    return torch.log10((i0 + epsilon) / (values + epsilon))


def transmitted(density: Tensor, *, i0: float = I0, epsilon: float = EPSILON) -> Tensor:
    """The inverse of `optical_density`: grey levels (float, not rounded or clipped) from optical density.

    >>> transmitted(torch.tensor([0.0, 1.0]))
    tensor([255.0000,  24.6000])
    """
    return (i0 + epsilon) * torch.pow(10.0, -density) - epsilon


def separate(images: Tensor, matrix: Tensor | None = None, *, i0: float = I0, epsilon: float = EPSILON) -> Tensor:
    """Stain densities `[..., stain]` of RGB grey levels `[..., channel]`: `OD M^-1`, not clipped at 0.

    >>> white = torch.full((1, 3), 255.0)
    >>> separate(white).abs().max().item()
    0.0
    """
    density = optical_density(images, i0=i0, epsilon=epsilon)
    rows = stain_matrix() if matrix is None else matrix
    # The inverse of a 3x3 matrix costs nothing; float64 keeps it exact to the last bit of float32.
    inverse = torch.linalg.inv(rows.to(torch.float64)).to(density)
    return density @ inverse


def render(densities: Tensor, matrix: Tensor | None = None, *, i0: float = I0, epsilon: float = EPSILON) -> Tensor:
    """RGB grey levels `[..., channel]` (float) of stain densities `[..., stain]`: undoes `separate`.

    Differentiable. For a picture: `render(c).round().clamp(0, 255).to(torch.uint8)`.

    >>> render(torch.zeros(1, 3))
    tensor([[255., 255., 255.]])
    """
    rows = stain_matrix() if matrix is None else matrix
    return transmitted(densities @ rows.to(densities), i0=i0, epsilon=epsilon)
