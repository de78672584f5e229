"""How smooth maps are: their quadratic forms in Gaussian kernels of several lengths, exact, by one Fourier transform.

Spots are put on a raster; there x' K x of a stationary kernel is a weighted sum of the power spectrum of x, so that
one transform of a map serves every kernel. The raster is one cell a spot where spots lie on a square grid, else two
cells per distance between neighbours; the kernels are those of the raster's places, so forms and traces agree.
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.spatial import cKDTree

LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the kernels, in distances between neighbouring spots
REACH = 4.0  # lengths of a kernel beyond which it is nothing
ON_GRID = 0.15  # distance from a square grid, in distances between neighbours, that still counts as on it


class Kernels:
    """White noise and Gaussian kernels exp(-d^2 / 2 length^2) between the spots of one slide.

    Args:
        coords: spot centres `[spot, 2]`, in any unit of length.

    >>> kernels = Kernels(np.array([[0.0, 0.0], [0.0, 1.0]]))
    >>> kernels.forms(np.array([[1.0], [1.0]])).round(3)  # 2 + 2 exp(-1 / 2 length^2), white noise first
    array([[2.   , 3.213, 3.765, 3.938, 3.984, 3.996]])
    """

    def __init__(self, coords: np.ndarray) -> None:
        apart = cKDTree(coords).query(coords, k=2)[0][:, 1] if len(coords) > 1 else np.zeros(1)
        step = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        places = (coords - coords.min(axis=0)) / step
        off = np.abs(places - np.round(places)).max()
        fine = 1 if off < ON_GRID else 2
        self.cells = np.round(places * fine).astype(np.int64)
        sides = self.cells.max(axis=0) + 1
        # Room for lags on both sides, so that the transform's wrapping joins nothing that a kernel reaches.
        reach = int(np.ceil(REACH * max(LENGTHS) * fine))
        self.shape = tuple(fft.next_fast_len(int(side + min(side - 1, reach)), real=True) for side in sides)
        lags = [np.minimum(np.arange(m), m - np.arange(m)) / fine for m in self.shape]
        squared = lags[0][:, None] ** 2 + lags[1][None, :] ** 2
        self.kernels = np.stack([np.exp(-squared / (2 * length**2)) for length in LENGTHS])
        half = np.full(self.shape[1] // 2 + 1, 2.0)  # a real map's spectrum is stored by halves
        half[0] = 1.0
        if self.shape[1] % 2 == 0:
            half[-1] = 1.0
        self.spectra = fft.rfft2(self.kernels).real
        self.weights = (self.spectra * half / np.prod(self.shape)).reshape(len(LENGTHS), -1)

    def forms(self, maps: np.ndarray) -> np.ndarray:
        """x' K x `[map, kernel]` of maps `[spot, map]`, white noise (x' x) first."""
        spectrum = fft.rfft2(self._raster(maps.astype(np.float32)))
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).reshape(len(spectrum), -1)
        return np.concatenate(
            [np.square(maps).sum(axis=0)[:, None], power @ self.weights.T.astype(power.dtype)], axis=1
        )

    def products(self, basis: np.ndarray) -> np.ndarray:
        """trace(P K_a P K_b) `[kernel, kernel]`, P taking the orthonormal columns of `basis` out of a map."""
        n = len(basis)
        raster = fft.rfft2(self._raster(np.ones((n, 1))))[0]
        pairs = fft.irfft2(np.abs(raster) ** 2, s=self.shape)  # how many pairs of spots are a lag apart
        kernels = np.concatenate([np.zeros((1, *self.shape)), self.kernels])
        kernels[0, 0, 0] = 1.0
        whole = np.einsum("xy,axy,bxy->ab", pairs, kernels, kernels, optimize=True)
        # White noise is the identity between spots, also between two that share a cell.
        whole[0, :] = whole[:, 0] = n
        smoothed = np.stack(
            [basis, *(self._smooth(basis, spectrum) for spectrum in self.spectra)]
        )  # [kernel, spot, column]
        across = np.einsum("aik,bil->abkl", smoothed, smoothed)
        within = np.einsum("ik,ail->akl", basis, smoothed)
        return whole - 2 * np.einsum("abkk->ab", across) + np.einsum("akl,blk->ab", within, within)

    def _smooth(self, maps: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        smooth = fft.irfft2(fft.rfft2(self._raster(maps)) * spectrum, s=self.shape)
        return smooth[:, self.cells[:, 0], self.cells[:, 1]].T

    def _raster(self, maps: np.ndarray) -> np.ndarray:
        """Maps `[spot, map]` as pictures `[map, row, column]`; spots that share a cell add up."""
        cell = self.cells[:, 0] * self.shape[1] + self.cells[:, 1]
        flat = np.zeros((self.shape[0] * self.shape[1], maps.shape[1]), dtype=maps.dtype)
        np.add.at(flat, cell, maps)
        return np.ascontiguousarray(flat.T).reshape(-1, *self.shape)
