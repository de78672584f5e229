"""The image that a section's patches are cut from, if it is the one that its spots were placed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from agl.errors import UserError
from agl.preparing.images.image import SlideImage, reduced
from agl.preparing.images.open import open_image
from agl.preparing.section import Section


@contextmanager
def image_of(section: Section, remarks: list[str]) -> Iterator[SlideImage]:
    """The full-resolution image, else the largest small picture, which is said.

    Raises:
        UserError: an image of another size than the places are for, or with spots outside.
    """
    if section.image is not None:
        with open_image(section.image) as image:
            _refuse_other_image(section, image)
            yield image
        return
    picture = next(iter(section.pictures.values()))
    with open_image(picture.path) as image:
        remarks.append(
            f"Patches are cut from {picture.path.name}, a copy of the image reduced to {picture.scale:.3f}: name the "
            "full image with --image for sharp ones."
        )
        yield reduced(image, picture.scale)


def _refuse_other_image(section: Section, image: SlideImage) -> None:
    width, height = image.size
    if section.image_size is not None:
        w, h = section.image_size
        off = max(abs(width - w) / w, abs(height - h) / h)
        if off > 0.02:
            turned = max(abs(width - h) / h, abs(height - w) / w) <= 0.02
            raise UserError(
                f"Expected the image that the spots of section '{section.name}' were placed on, about {w:.0f} x "
                f"{h:.0f} px by its small picture, received {image.path} of {width} x {height}"
                f"{', which is turned' if turned else ''}; give the file that Space Ranger was given as --image."
            )
    outside = np.any((section.xy < 0) | (section.xy > [width, height]), axis=1)
    if outside.mean() > 0.1:
        raise UserError(
            f"Expected the spots of section '{section.name}' in its image, {int(outside.sum())} of {len(outside)} lie "
            f"outside {image.path} ({width} x {height} px; x up to {section.xy[:, 0].max():.0f}, y up to "
            f"{section.xy[:, 1].max():.0f}); give the full-resolution image, and (x, y) in its px."
        )
