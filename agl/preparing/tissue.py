"""Where the tissue is, and how good the picture of each spot: Otsu's threshold on saturation, glass, sharpness.

Glass is grey, stained tissue is coloured. Otsu (1979) takes the threshold t that parts the saturations best:

    argmax_t  w0(t) w1(t) (mean0(t) - mean1(t))^2,      w = shares of px up to and above t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SATURATION_LEAST = 12  # of 255; below, what Otsu parts is glass from glass
_GREY = (0.299, 0.587, 0.114)
_BLUNT = 0.1  # of the slide's median sharpness: below, a patch is blurred beside the others
_GLASS_LIGHT, _GLASS_SATURATION = 210, 20  # of 255


def saturation(rgb: np.ndarray) -> np.ndarray:
    """HSV saturation times 255, uint8 [...] of RGB uint8 [..., 3]: (max - min) / max; black has none.

    >>> saturation(np.array([[255, 255, 255], [200, 100, 150], [0, 0, 0]], dtype=np.uint8)).tolist()
    [0, 128, 0]
    """
    red, green, blue = (rgb[..., channel] for channel in range(3))  # far faster than max(axis=-1)
    most, least = (op(op(red, green), blue) for op in (np.maximum, np.minimum))
    return np.rint(255 * (most - least).astype(np.float32) / np.maximum(most, 1)).astype(np.uint8)


def otsu(values: np.ndarray) -> int:
    """Otsu's threshold of grey levels uint8: values above it are the brighter class; the only level where there is one.

    >>> otsu(np.array([10, 11, 12, 200, 201], dtype=np.uint8))
    12
    """
    share = np.bincount(values.reshape(-1), minlength=256) / max(1, values.size)
    below, first_moment = np.cumsum(share), np.cumsum(share * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (first_moment[-1] * below - first_moment) ** 2 / (below * (1 - below))
    between[~np.isfinite(between)] = 0
    return int(np.argmax(between)) if between.any() else int(values.reshape(-1)[0])


def tissue_mask(picture: np.ndarray) -> np.ndarray:
    """bool [height, width]: px of a small picture [height, width, 3] that are tissue; without specks and pinholes."""
    from scipy.ndimage import uniform_filter

    coloured = saturation(picture)
    threshold = max(otsu(coloured), SATURATION_LEAST)
    return np.asarray(uniform_filter((coloured > threshold).astype(np.float32), size=3) > 0.5)  # the median of nine


def share_in(mask: np.ndarray, xy: np.ndarray, side: float, scale: float) -> np.ndarray:
    """[spot] the share of `mask` that is true in a square of `side` full-resolution px around each centre; outside the
    picture nothing is. `scale`: px of the mask for a full-resolution px."""
    return mean_in(rectangle_sums(mask), xy, side, scale)


def rectangle_sums(values: np.ndarray) -> np.ndarray:
    """[height + 1, width + 1] sums of all values above and left, from which that of any rectangle is four look-ups."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values
    np.cumsum(sums, axis=0, out=sums)
    return np.asarray(np.cumsum(sums, axis=1, out=sums))


def mean_in(sums: np.ndarray, xy: np.ndarray, side: float, scale: float) -> np.ndarray:
    """[spot] the mean of values, given as `rectangle_sums`, in a square around each centre, 0 outside.

    A square smaller than a px is the px it lies in.
    """
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    low, high = (np.rint((xy + half) * scale).astype(np.int64) for half in (-side / 2, side / 2))
    high = np.maximum(high, low + 1)
    area = np.prod(high - low, axis=1)
    (x0, y0), (x1, y1) = (np.clip(corner, 0, [width, height]).T for corner in (low, high))
    return (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) / area


def glass_share(patches: np.ndarray) -> np.ndarray:
    """[patch] share of px, of uint8 [patch, px, px, 3], that are as bright and grey as empty glass."""
    bright = np.minimum(np.minimum(patches[..., 0], patches[..., 1]), patches[..., 2]) >= _GLASS_LIGHT
    return np.asarray((bright & (saturation(patches) <= _GLASS_SATURATION)).mean(axis=(1, 2)))


def sharpness(patches: np.ndarray) -> np.ndarray:
    """[patch] variance of the Laplacian of the grey level: how much changes from px to px; low where out of focus."""
    red, green, blue = (np.float32(weight) * patches[..., channel] for channel, weight in enumerate(_GREY))
    grey = red + green + blue
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return np.asarray((around - 4 * inner).var(axis=(1, 2)), dtype=np.float64)


@dataclass
class Looked:
    """`glass` and `sharpness` [spot], filled while patches are cut."""

    glass: np.ndarray
    sharpness: np.ndarray

    @classmethod
    def of(cls, n: int) -> Looked:
        return cls(np.full(n, np.nan), np.full(n, np.nan))

    def look(self, spots: np.ndarray, patches: np.ndarray) -> None:
        """See some spots' patches."""
        self.glass[spots], self.sharpness[spots] = glass_share(patches), sharpness(patches)


def quality_remarks(tissue: np.ndarray, looked: Looked) -> list[str]:
    """Sentences about spots on glass and blurred ones; nobody drops them."""
    remarks = []
    on_glass = (tissue < 0.1) & (looked.glass > 0.5)
    if on_glass.any():
        remarks.append(
            f"{int(on_glass.sum())} of {len(tissue)} spots lie on glass (obs['tissue'] < 0.1); they are kept."
        )
    seen = looked.sharpness[looked.glass < 0.5]
    if len(seen):
        blunt = (looked.sharpness < _BLUNT * np.median(seen)) & (looked.glass < 0.5)
        if blunt.any():
            remarks.append(
                f"{int(blunt.sum())} of {len(tissue)} spots are blurred beside the others (obs['sharpness'] below a "
                "tenth of the median); they are kept."
            )
    return remarks
