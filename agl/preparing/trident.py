"""TRIDENT's file of coordinates, so that its encoders look where our spots are.

`<job>/<mag>x_<px>px_0px_overlap/patches/<slide>_patches.h5` holds `coords` int64 [spot, 2], top-left corners in px of
the full image, with attributes that say how large a patch is there (`patch_size_level0`) and for the encoder
(`patch_size`). The features that TRIDENT then writes beside it are read by `data.features=<encoder>`: rows are joined
by these places.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from agl.data.reading.h5ad import read_spots
from agl.errors import UserError
from agl.leftovers import replacing
from agl.preparing.images.open import open_image
from agl.preparing.writing import read_record

_UM_AT_ONE = 10.0  # um a px at a magnification of 1: 0.5 at 20x


def parse(said: str) -> tuple[int, int]:
    """(magnification, px) of TRIDENT's name for them.

    Raises:
        UserError: another form.

    >>> parse("20x_256px")
    (20, 256)
    """
    found = re.fullmatch(r"(\d{1,3})x_(\d{1,5})px", said)
    if found is None or not int(found.group(1)) or not int(found.group(2)):
        raise UserError(f"Expected magnification and px as 20x_256px, received {said!r}; mend --trident.")
    return int(found.group(1)), int(found.group(2))


def write_coordinates(
    section: Path, job: Path, encoder: tuple[int, int] = (20, 256), *, image: Path | None = None
) -> Path:
    """Write the file for a prepared section; gives its path.

    Args:
        section: its h5ad, as `agl prepare` wrote it.
        job: TRIDENT's job folder (`--job_dir`).
        encoder: its magnification and px (`--mag`, `--patch_size`): 256 px at 20x are 128 um.
        image: the slide; default: the one that the section was prepared from.

    Raises:
        UserError: a section that `agl prepare` did not write, one without an image, or an image that is gone.

    >>> write_coordinates(Path("mine/adata/S1.h5ad"), Path("mine"))  # doctest: +SKIP
    PosixPath('mine/20x_256px_0px_overlap/patches/S1_patches.h5')
    """
    import h5py

    magnification, pixels = encoder
    record = read_record(section)
    if record is None or "um_per_px" not in record["row"]:
        raise UserError(
            f"Expected a section that `agl prepare` wrote with its image, received {section}; prepare it with --image."
        )
    slide, um_per_px = section.stem, float(record["row"]["um_per_px"])
    xy = read_spots(slide, section).xy
    with open_image(image or Path(record["row"]["image"])) as opened:
        width, height = opened.size
    side = round(pixels * _UM_AT_ONE / magnification / um_per_px)
    target = job / f"{magnification}x_{pixels}px_0px_overlap" / "patches" / f"{slide}_patches.h5"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part, h5py.File(part, "w") as h5:
        coords = h5.create_dataset("coords", data=np.rint(xy - side / 2).astype(np.int64))
        coords.attrs.update(
            {
                "patch_size": pixels,
                "patch_size_level0": side,
                "level0_magnification": round(_UM_AT_ONE / um_per_px),
                "target_magnification": magnification,
                "overlap": 0,
                "name": slide,
                "savetodir": str(target.parent.parent),
                "level0_width": width,
                "level0_height": height,
            }
        )
    return target
