"""Stain statistics of patches as a feature folder: mean and spread of the optical density of each colour channel and of
the amounts of hematoxylin, eosin and residual (Ruifrok and Johnston). What a linear model can do with colour alone.

python experiments/stain_learning/stain_statistics.py ROOT OUT          # then data.features=OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import torch

from agl.data.images.stain import optical_density, separate


def main(root: str, out: str) -> None:
    """One HEST-bench-style file a section, `OUT/<section>.h5`."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(root) / "patches").glob("*.h5")):
        with h5py.File(path) as source, h5py.File(folder / path.name, "w") as target:
            rows = []
            for start in range(0, len(source["img"]), 64):
                images = torch.from_numpy(source["img"][start : start + 64]).flatten(1, 2)
                both = torch.cat([optical_density(images), separate(images.float())], 2)
                rows.append(torch.cat([both.mean(1), both.std(1)], 1))
            target["embeddings"] = torch.cat(rows).numpy().astype(np.float32)
            target["barcodes"] = source["barcode"][:]
            target["coords"] = source["coords"][:]


if __name__ == "__main__":
    main(*sys.argv[1:3])
