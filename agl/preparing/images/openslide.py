"""Scanners' own formats (SVS, NDPI, MRXS, ...), by OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agl.errors import UserError
from agl.extras import need
from agl.preparing.images.image import SlideImage, levels_of, plausible

_GLASS = 255


def open_slide(path: Path) -> SlideImage:
    """The slide with its levels; what was not scanned is white.

    Raises:
        UserError: damaged, or OpenSlide is not installed.
    """
    library = need("openslide", f"to read {path.suffix} images", "slides")
    try:
        slide = library.OpenSlide(str(path))
        sizes = slide.level_dimensions
        downsamples = slide.level_downsamples
    except (library.OpenSlideError, OSError) as error:
        raise UserError(
            f"Expected an image of a scanner at {path}, OpenSlide cannot read it ({error}); copy it again, with the "
            "folder of the same name if it has one."
        ) from error
    said = [slide.properties.get(getattr(library, f"PROPERTY_NAME_MPP_{axis}")) for axis in "XY"]
    mpp = None if None in said else float(np.mean([float(value) for value in said]))

    def region(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        corner = round(x * downsamples[level]), round(y * downsamples[level])
        try:
            read = np.asarray(slide.read_region(corner, level, (width, height)))
        except library.OpenSlideError as error:
            raise UserError(
                f"Expected an image that can be read to its end at {path}, it is damaged ({error}); copy it again."
            ) from error
        rgb, alpha = read[..., :3], read[..., 3:].astype(np.uint16)
        if int(alpha.min()) == 255:
            return np.ascontiguousarray(rgb)
        return ((rgb * alpha + (255 - alpha) * _GLASS) // 255).astype(np.uint8)

    return SlideImage(path, levels_of(list(sizes)), plausible(mpp), region, slide.close)
