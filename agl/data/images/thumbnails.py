"""The H&E picture under a map of spots, where the data folder holds one. Nothing here may fail what draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PICTURES = (".jpg", ".jpeg", ".png")
LARGEST = 900  # px; a map needs no more
FOLDERS = ("adata", "st", ".")


@dataclass(frozen=True)
class Thumbnail:
    """A picture of a section, and where spots lie in it: picture px = xy @ matrix + shift, for xy in full-res px."""

    pixels: np.ndarray  # uint8 [height, width, 3]
    matrix: np.ndarray  # [2, 2]
    shift: np.ndarray  # [2]

    def place(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[spot, 2] picture coordinates."""
        return np.column_stack([x, y]) @ self.matrix + self.shift

    @property
    def scale(self) -> float | None:
        """Picture px a full-resolution px, where that is all that lies between them; None if one is turned or moved."""
        scale = float(self.matrix[0, 0])
        plain = scale > 0 and np.allclose(self.matrix, scale * np.eye(2), atol=1e-6 * scale)
        return scale if plain and np.allclose(self.shift, 0, atol=0.5) else None


def find_thumbnail(
    root: str | None, slide: str, x: np.ndarray, y: np.ndarray, barcodes: np.ndarray
) -> Thumbnail | None:
    """The section's picture: `thumbnails/SLIDE.jpg` with `uns['thumbnail_scale']`, or `uns['spatial']`'s image.

    Args:
        root: the data folder.
        x, y: [spot] centres in full-resolution px.
        barcodes: [spot], to find the spots in the section's own file.

    Returns:
        None where there is no picture, no scale, or a file that cannot be read.
    """
    section = _section(root, slide)
    if section is None:
        return None
    try:
        import anndata

        table = anndata.read_h5ad(section, backed="r")
        try:
            found = _beside(Path(str(root)), slide, table, x, y, barcodes) or _inside(table.uns)
        finally:
            table.file.close()
    except (OSError, KeyError, ValueError, TypeError, IndexError):  # a picture is a comfort, not a result
        return None
    return None if found is None else _shrunk(found)


def _section(root: str | None, slide: str) -> Path | None:
    if root is None:
        return None
    places = [Path(root) / folder / f"{slide}.h5ad" for folder in FOLDERS]
    return next((place for place in places if place.is_file()), None)


def _beside(root: Path, slide: str, table: Any, x: np.ndarray, y: np.ndarray, barcodes: np.ndarray) -> Thumbnail | None:
    """A picture in `thumbnails/`. `obsm['spatial_image']`, where there is one, is in the picture's own px."""
    from PIL import Image

    files = [root / "thumbnails" / f"{slide}{ending}" for ending in PICTURES]
    file = next((file for file in files if file.is_file()), None)
    scale = table.uns.get("thumbnail_scale")
    if file is None or scale is None:
        return None
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    matrix, shift = np.eye(2), np.zeros(2)
    if "spatial_image" in table.obsm:
        rows = table.obs_names.get_indexer(list(barcodes))
        known = rows >= 0
        if known.sum() < 3:
            return None
        xy1 = np.column_stack([x[known], y[known], np.ones(known.sum())])
        target = np.asarray(table.obsm["spatial_image"])[rows[known], :2]
        solved, *_ = np.linalg.lstsq(xy1, target, rcond=None)
        matrix, shift = solved[:2], solved[2]
    return Thumbnail(pixels, matrix * float(scale), shift * float(scale))


def _inside(uns: Mapping[str, Any]) -> Thumbnail | None:
    """`uns['spatial'][library]['images']`, as HEST (downscaled_fullres) and Space Ranger (hires, lowres) store it."""
    for library in dict(uns.get("spatial", {})).values():
        images, scales = library.get("images", {}), library.get("scalefactors", {})
        for name in ("downscaled_fullres", "hires", "lowres"):
            scale = scales.get(f"tissue_{name}_scalef")
            if name in images and scale is not None:
                pixels = np.asarray(images[name])[..., :3]
                pixels = pixels if pixels.dtype == np.uint8 else (np.clip(pixels, 0, 1) * 255).astype(np.uint8)
                return Thumbnail(pixels, np.eye(2) * float(scale), np.zeros(2))
    return None


def _shrunk(found: Thumbnail) -> Thumbnail:
    """No larger than a map shows."""
    from PIL import Image

    height, width = found.pixels.shape[:2]
    factor = min(1.0, LARGEST / max(height, width))
    if factor == 1.0:
        return found
    size = (round(width * factor), round(height * factor))
    pixels = np.asarray(Image.fromarray(found.pixels).resize(size, Image.Resampling.LANCZOS))
    return Thumbnail(pixels, found.matrix * factor, found.shift * factor)
