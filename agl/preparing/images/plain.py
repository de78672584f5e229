"""PNG and JPEG, by Pillow. Neither can be read in part, so these are held in memory, up to a stated size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agl.errors import UserError
from agl.places import regular_file
from agl.preparing.images.image import SlideImage, levels_of

LARGEST = 500_000_000  # px, 1.5 GB


def open_plain(path: Path) -> SlideImage:
    """The picture with one level; its tags are a screen's, so the size of its pixels is unknown.

    Raises:
        UserError: damaged, or larger than `LARGEST`.
    """
    from PIL import Image

    regular_file(path, "an image")
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the limit is ours, below
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST:
                raise UserError(
                    f"Expected at most {LARGEST:,} px in an image that can only be read as a whole, {path} has "
                    f"{picture.width} x {picture.height}; write it as a tiled TIFF: vips tiffsave {path.name} "
                    f"{path.stem}.tif --tile --pyramid --bigtiff --compression jpeg"
                )
            if picture.mode.startswith(("I", "F")):
                raise UserError(f"Expected 8-bit colours in {path}, received {picture.mode}; convert it to 8-bit RGB.")
            pixels = np.asarray(_on_white(picture))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"Expected an image at {path}, cannot read it ({str(error).split(' <')[0]}); copy it again."
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = before
    height, width = pixels.shape[:2]
    return SlideImage(path, levels_of([(width, height)]), None, lambda level, x, y, w, h: pixels[y : y + h, x : x + w])


def _on_white(picture):  # type: ignore[no-untyped-def]
    """RGB; what is transparent is glass."""
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")
    return picture.convert("RGB")
