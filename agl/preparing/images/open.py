"""Open any image of a slide by what its name says it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agl.errors import UserError
from agl.places import regular_file
from agl.preparing.images.image import SlideImage
from agl.preparing.images.kinds import OPENSLIDE, PILLOW, SUFFIXES, TIFF
from agl.preparing.images.ome_zarr import is_picture


def there(path: Path) -> Path:
    """The path, if a file that can be read to its end is there, or a picture in Zarr.

    Raises:
        UserError: nothing there, a folder, a pipe.
    """
    return path if is_picture(path) else regular_file(path, "an image of the slide")


@contextmanager
def open_image(path: Path) -> Iterator[SlideImage]:
    """The image, closed at the end of the block.

    Raises:
        UserError: nothing there, a kind that is not known, damaged, or a package is missing that reads it.
    """
    suffix = there(path).suffix.lower()
    if is_picture(path):
        from agl.preparing.images.ome_zarr import open_ome_zarr as opened
    elif suffix in PILLOW:
        from agl.preparing.images.plain import open_plain as opened
    elif suffix in TIFF:
        from agl.preparing.images.tiff import open_tiff as opened
    elif suffix in OPENSLIDE:
        from agl.preparing.images.openslide import open_slide as opened
    else:
        raise UserError(f"Expected an image as {', '.join(SUFFIXES)}, received {path}; convert it to a tiled TIFF.")
    image = opened(path)
    try:
        yield image
    finally:
        image.close()
