"""How dark a section's patches are, on some of them: what stain density alone could tell."""

from __future__ import annotations

import numpy as np

from agl.data.reading.hdf5 import open_h5
from agl.data.reading.patches import PatchFile, stored_images

MOST_PATCHES = 400  # enough for a mean over genes to .05 or so, and read in a second


def densities(file: PatchFile, rows: np.ndarray) -> np.ndarray:
    """`[spot]` mean optical density of the patches of some spots, evenly taken; NaN for the others.

    Args:
        rows: `[spot]` row in the file, -1 without a patch.
    """
    import torch

    from agl.data.images.stain import optical_density

    found = np.full(len(rows), np.nan)
    spots = np.flatnonzero(rows >= 0)
    spots = spots[:: max(1, -(-len(spots) // MOST_PATCHES))]
    with open_h5(file.path, "a patch file") as h5:
        images = stored_images(h5)
        for spot in spots[np.argsort(rows[spots], kind="stable")]:
            row = int(rows[spot])
            patch = torch.from_numpy(np.asarray(images[row : row + 1])).permute(0, 3, 1, 2).float()
            found[spot] = float(optical_density(patch).mean())
    return found
