"""Patches to numbers without any weights: the built-in extractor.

Every patch gives `len(FEATURE_NAMES)` numbers that a pathologist could explain: how much light each colour
loses, how much hematoxylin and eosin there is and how it is spread, how rough the picture is at two scales, how
many nuclei there are and how much of the patch they cover. All of it is batched torch in float32, so it runs on a
GPU too.

Lengths are measured in working pixels: a patch is first averaged down by `round(side / 112)`, so 224 px at 0.5 um
and 112 px at 1 um, the two usual grids with a 112 um field of view, are described on the same scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agl.data.images.stain import I0, optical_density, stain_matrix
from agl.errors import DataError

WORKING_SIDE = 112
SMALLEST_SIDE = 16
COARSE = 4  # the coarse scale averages blocks of 4 x 4 working pixels
NUCLEAR_DENSITY = 0.6  # hematoxylin (base-10 density) that nuclei reach and cytoplasm (about 0.3) does not
TISSUE_DENSITY = 0.08  # mean optical density below which light passes through glass or fat
QUANTILES = (0.1, 0.5, 0.9)

_LAYERS = ("hematoxylin", "eosin", "residual", "density")
_ROUGH = ("hematoxylin", "eosin")
_LAYER_WEIGHTS = [
    *torch.linalg.inv(stain_matrix(dtype=torch.float64)).T.tolist(),
    [1 / 3, 1 / 3, 1 / 3],
]


def _names() -> tuple[str, ...]:
    names = [f"{channel}_{what}" for channel in ("red", "green", "blue") for what in ("mean", "std")]
    names += ["red_green_correlation", "green_blue_correlation", "red_blue_correlation"]
    names += ["saturation_mean", "saturation_std"]
    for scale in ("fine", "coarse"):
        # Averaging does not change the mean, so the coarse scale has none.
        moments = ("mean",) * (scale == "fine") + ("std", "skewness", "kurtosis")
        names += [f"{layer}_{scale}_{what}" for layer in _LAYERS for what in moments]
        names += [f"{layer}_{scale}_{what}" for layer in _ROUGH for what in ("gradient", "bend")]
        names += [f"hematoxylin_eosin_{scale}_correlation", f"hematoxylin_{scale}_anisotropy"]
    names += [f"{layer}_quantile_{int(100 * q)}" for layer in _LAYERS for q in QUANTILES]
    names += ["tissue_fraction", "nuclear_fraction", "nuclear_count", "nucleus_size", "nuclear_boundary"]
    names += ["nuclear_hematoxylin", "background_hematoxylin", "background_eosin", "nuclear_clustering"]
    return tuple(names)


FEATURE_NAMES = _names()


def extract(images: np.ndarray, batch_size: int = 32, *, device: str | torch.device = "cpu") -> np.ndarray:
    """Built-in features `[patch, feature]` (float32) of RGB patches `[patch, height, width, 3]` (uint8).

    The columns are `FEATURE_NAMES`. The same pixels give the same numbers: nothing is random or fitted, and
    constant patches give finite values (a moment of a constant is 0). Sides must be at least 16 px.

    Raises UserError when the array is not uint8 `[patch, height, width, 3]` or a side is shorter than 16 px.

    >>> white = np.full((2, 32, 32, 3), 255, np.uint8)
    >>> features = extract(white)
    >>> features.shape == (2, len(FEATURE_NAMES)) and bool(np.isfinite(features).all())
    True
    >>> float(features[0, FEATURE_NAMES.index("nuclear_fraction")])
    0.0
    """
    check_patches(images)
    parts = [describe(batch.to(device)).cpu().numpy() for batch in _batches(images, batch_size)]
    return np.concatenate(parts) if parts else np.empty((0, len(FEATURE_NAMES)), np.float32)


def check_patches(images: np.ndarray) -> None:
    """Refuse anything but uint8 `[patch, height, width, 3]` with sides of at least 16 px."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"Expected RGB patches as uint8 [patch, height, width, 3], received {images.dtype} "
            f"{list(images.shape)}; convert them to 8-bit RGB with the channel last."
        )
    if min(images.shape[1:3]) < SMALLEST_SIDE:
        raise DataError(
            f"Expected patches of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} px, received "
            f"{images.shape[1]} x {images.shape[2]}; cut larger patches."
        )


def _batches(images: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    for start in range(0, len(images), batch_size):
        yield torch.from_numpy(np.array(images[start : start + batch_size], order="C"))


@torch.no_grad()
def describe(patches: Tensor) -> Tensor:
    """Features `[patch, feature]` of a batch of uint8 patches `[patch, height, width, 3]`, on its device."""
    rgb = patches.permute(0, 3, 1, 2).contiguous().float()
    factor = max(1, round(min(rgb.shape[2:]) / WORKING_SIDE))
    if factor > 1:
        rgb = F.avg_pool2d(rgb, factor)
    fine = _stain_layers(rgb)
    coarse = F.avg_pool2d(fine, COARSE)
    columns = [
        _colour(rgb),
        _moments(fine, with_mean=True),
        _texture(fine[:, :2]),
        _moments(coarse, with_mean=False),
        _texture(coarse[:, :2]),
        _quantiles(coarse),
        _nuclei(fine),
    ]
    return torch.cat(columns, dim=1)


def _stain_layers(rgb: Tensor) -> Tensor:
    """Hematoxylin, eosin, residual, and mean optical density: `[patch, 4, y, x]`."""
    red, green, blue = optical_density(rgb).unbind(dim=1)
    layers = torch.empty((len(rgb), len(_LAYERS), *rgb.shape[2:]), device=rgb.device)
    for layer, weights in enumerate(_LAYER_WEIGHTS):
        # Three scaled additions: a [4, 3] matrix is too thin for the matrix product to be fast.
        torch.mul(red, weights[0], out=layers[:, layer])
        layers[:, layer].add_(green, alpha=weights[1]).add_(blue, alpha=weights[2])
    return layers


def _colour(rgb: Tensor) -> Tensor:
    """Mean and spread of red, green, blue (as fractions of white), their correlations, and saturation."""
    red, green, blue = rgb.unbind(dim=1)
    lightest = torch.maximum(torch.maximum(red, green), blue)
    saturation = lightest - torch.minimum(torch.minimum(red, green), blue)
    spread = torch.stack(torch.std_mean(saturation, dim=(1, 2), correction=0)[::-1], dim=1) / I0

    flat = rgb.flatten(2)
    mean = flat.mean(dim=2)
    centred = flat - mean.unsqueeze(2)
    covariance = centred @ centred.mT / flat.shape[2]
    std = covariance.diagonal(dim1=1, dim2=2).sqrt()
    scaled = covariance / (std.unsqueeze(1) * std.unsqueeze(2)).clamp(min=1e-2)
    correlations = torch.stack([scaled[:, 0, 1], scaled[:, 1, 2], scaled[:, 0, 2]], dim=1)
    return torch.cat([torch.stack([mean, std], dim=2).flatten(1) / I0, correlations, spread], dim=1)


def _moments(layers: Tensor, *, with_mean: bool) -> Tensor:
    """Mean, standard deviation, skewness and kurtosis of every layer (0 where the layer is constant)."""
    flat = layers.flatten(2)
    mean = flat.mean(dim=2)
    centred = flat - mean.unsqueeze(2)
    square = centred * centred
    variance = square.mean(dim=2)
    third, fourth = _mean_product(square, centred), _mean_product(square, square)
    std = variance.sqrt()
    # Below a thousandth of density the shape of a distribution is rounding noise: the floor sends it to 0.
    floor = variance.clamp(min=1e-6)
    skewness = third / floor**1.5
    kurtosis = fourth / floor**2
    kept = [mean, std, skewness, kurtosis] if with_mean else [std, skewness, kurtosis]
    return torch.stack(kept, dim=2).flatten(1)


def _mean_product(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the last dimension of a product `[..., n]`, without storing the product."""
    return (first.unsqueeze(-2) @ second.unsqueeze(-1)).flatten(-3) / first.shape[-1]


def _mean_size(differences: Tensor) -> Tensor:
    """Mean absolute value of every layer, without storing the absolute values."""
    n_pixels = differences.shape[2] * differences.shape[3]
    return torch.linalg.vector_norm(differences, 1, dim=(2, 3)) / n_pixels


def _texture(stains: Tensor) -> Tensor:
    """Mean absolute first and second differences of H and E, their correlation, and the edges' direction."""
    across = stains[..., :, 1:] - stains[..., :, :-1]
    down = stains[..., 1:, :] - stains[..., :-1, :]
    slope = _mean_size(across) + _mean_size(down)
    bend = _mean_size(across[..., 1:] - across[..., :-1]) + _mean_size(down[..., 1:, :] - down[..., :-1, :])
    roughness = torch.stack([slope, bend], dim=2).flatten(1)

    pair = stains.flatten(2)
    pair = pair - pair.mean(dim=2, keepdim=True)
    products = pair @ pair.mT / pair.shape[2]
    spread = (products[:, 0, 0] * products[:, 1, 1]).sqrt()
    correlation = products[:, 0, 1] / spread.clamp(min=1e-6)

    # Structure tensor of hematoxylin: 0 = edges in all directions alike, 1 = all edges parallel. Both slopes are
    # averaged to the middle of 2 x 2 pixels, so that turning the patch only swaps them.
    x = across[:, 0, 1:] + across[:, 0, :-1]
    y = down[:, 0, :, 1:] + down[:, 0, :, :-1]
    slopes = torch.stack([x.flatten(1), y.flatten(1)], dim=1)
    tensor = slopes @ slopes.mT / slopes.shape[2]
    xx, yy, xy = tensor[:, 0, 0], tensor[:, 1, 1], tensor[:, 0, 1]
    anisotropy = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / (xx + yy).clamp(min=1e-6)
    return torch.cat([roughness, torch.stack([correlation, anisotropy], dim=1)], dim=1)


def _quantiles(layers: Tensor) -> Tensor:
    """Lower, middle and upper value of every layer at the coarse scale (nearest rank: no interpolation)."""
    ordered = layers.flatten(2).sort(dim=2).values
    positions = [round(q * (ordered.shape[2] - 1)) for q in QUANTILES]
    return ordered[..., positions].flatten(1)


def _nuclei(layers: Tensor) -> Tensor:
    """Nuclei are blobs of dense hematoxylin: the area they cover, how many, how large, how clustered."""
    hematoxylin, eosin, density = layers[:, 0:1], layers[:, 1:2], layers[:, 3:4]
    blurred = _box(_box(hematoxylin))
    inside = blurred > NUCLEAR_DENSITY
    mask = inside.float()
    area = mask.mean(dim=(1, 2, 3))
    # One local maximum within 7 px (a nucleus is 6-12 um) counts one nucleus; per 1,000 working pixels.
    peaks = (inside & (blurred >= _local_maximum(blurred))).float()
    n_nuclei = peaks.sum(dim=(1, 2, 3))
    boundary = (mask[..., 1:] - mask[..., :-1]).abs().mean(dim=(1, 2, 3))
    boundary = boundary + (mask[..., 1:, :] - mask[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    cells = F.adaptive_avg_pool2d(mask, 4).flatten(1)

    def mean_where(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).mean(dim=(1, 2, 3)) / weights.mean(dim=(1, 2, 3)).clamp(min=1e-3)

    tissue = (density > TISSUE_DENSITY).float()
    outside = tissue * (1.0 - mask)
    columns = [
        tissue.mean(dim=(1, 2, 3)),
        area,
        1000.0 * peaks.mean(dim=(1, 2, 3)),
        mask.sum(dim=(1, 2, 3)) / n_nuclei.clamp(min=1.0),
        boundary,
        mean_where(hematoxylin, mask),
        mean_where(hematoxylin, outside),
        mean_where(eosin, outside),
        cells.std(dim=1, correction=0),
    ]
    return torch.stack(columns, dim=1)


def _box(image: Tensor) -> Tensor:
    """Mean of the 3 x 3 neighbourhood; the border repeats its last pixel."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9.0


def _local_maximum(image: Tensor) -> Tensor:
    """Maximum of the 7 x 7 neighbourhood by doubling windows: three shifted maxima a side, not 49 reads."""
    padded = F.pad(image, (3, 3, 3, 3), value=-torch.inf)
    for dim in (2, 3):
        for shift in (1, 2, 3):  # windows of 2, 4, then 7 px
            length = padded.shape[dim] - shift
            padded = torch.maximum(padded.narrow(dim, 0, length), padded.narrow(dim, shift, length))
    return padded
