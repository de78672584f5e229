"""One section into the folder: its patches, its counts, its thumbnail and the picture that shows whether both fit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.data.geometry import pitch
from agl.errors import UserError
from agl.leftovers import temporary
from agl.preparing.counts_file import finish, plain_text, write_counts
from agl.preparing.fitting import doubts, fits
from agl.preparing.images.image import SlideImage
from agl.preparing.images.open import there
from agl.preparing.images.resample import overview
from agl.preparing.patches import Cut, write_patches
from agl.preparing.picture import draw
from agl.preparing.resolution import Resolution, resolution
from agl.preparing.section import Section
from agl.preparing.slide import image_of
from agl.preparing.tissue import Looked, quality_remarks, share_in, tissue_mask

VERSION = 1  # raised when what is written would differ, so that older sections are made anew
RECORD = "agl_prepare"  # in uns
_LONGEST = 2000  # px of the overview
_THUMBNAIL = 900
_BLURRED = 1.5  # um a px above which patches show no nuclei


@dataclass(frozen=True)
class Settings:
    """What decides how a section's files look. `patch_um`, `patch_px`: side of a patch; `mpp`: um a px of the image, if
    given; `jpeg`: quality of stored patches, None for their pixels."""

    patch_um: float = 112.0
    patch_px: int = 224
    mpp: float | None = None
    bin_um: float | None = None
    jpeg: int | None = None


def write_section(
    section: Section,
    root: Path,
    settings: Settings,
    patient: str,
    mark: str,
    *,
    workers: int = 1,
    told: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write all files of a section below `root`, the counts last: an h5ad that is there is a whole section. Gives the
    row of `sections.csv` and what is to be said, under "remarks"."""
    places = {"adata": ".h5ad", "patches": ".h5", "thumbnails": ".jpg", "checks": ".png"}
    targets = {name: root / name / f"{section.name}{ending}" for name, ending in places.items()}
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    parts = {name: temporary(target) for name, target in targets.items()}
    try:
        row = _write(section, parts, settings, patient, mark, workers, told)
        for name in ("patches", "thumbnails", "checks", "adata"):
            if parts[name].exists():
                os.replace(parts[name], targets[name])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return row


def mark_of(section: Section, image: Path | None, settings: Settings) -> str:
    """A text that changes when a file that the section is made from, or a setting, does."""
    files = sorted({*section.files, *([there(image)] if image else [])})
    seen = [(os.path.realpath(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    content = json.dumps([VERSION, seen, asdict(settings), section.name])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_record(path: Path) -> dict[str, Any] | None:
    """What an earlier call noted in an h5ad; None for one that was not written here.

    Raises:
        UserError: a damaged file.
    """
    from agl.data.reading.hdf5 import open_h5

    with open_h5(path, "an h5ad file") as h5:
        noted = h5.get(f"uns/{RECORD}")
        return None if noted is None else dict(json.loads(noted[()]))


def give_patient(path: Path, patient: str) -> None:
    """Another patient for a section that is finished; all else stays as it is."""
    import h5py
    from anndata.io import read_elem, write_elem

    part = temporary(path)
    try:
        shutil.copyfile(path, part)
        with h5py.File(part, "a") as h5:
            obs = read_elem(h5["obs"])
            obs["patient"] = patient
            record = json.loads(h5[f"uns/{RECORD}"][()])
            record["row"]["patient"] = patient
            del h5["obs"], h5[f"uns/{RECORD}"]
            write_elem(h5, "obs", plain_text(obs))
            write_elem(h5, f"uns/{RECORD}", json.dumps(record))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write(
    section: Section,
    parts: Mapping[str, Path],
    settings: Settings,
    patient: str,
    mark: str,
    workers: int,
    told: Callable[[int], None] | None,
) -> dict[str, Any]:
    obs, remarks = _obs(section, patient), list(section.remarks)
    row: dict[str, Any] = {
        "section": section.name,
        "patient": patient,
        "spots": len(section),
        "genes": len(section.genes),
    }
    totals = write_counts(parts["adata"], section.blocks(), (len(section), len(section.genes)))
    if not totals.any():
        raise UserError(
            f"Expected counts in section '{section.name}', received none but zeros: is it the right matrix, was it "
            "copied to its end? Copy the source again."
        )
    if empty := int((totals == 0).sum()):
        remarks.append(f"Spots without any count: {empty}; they are kept.")
    row |= {"median_counts": float(np.median(totals)), "source": section.kind}
    uns: dict[str, Any] = {}
    obsm = {"spatial": np.asarray(section.xy, dtype=np.float64)}
    if section.image is None and not section.pictures:
        remarks.append("There is no image: no patches were cut; name one with --image.")
    else:
        with image_of(section, remarks) as image:
            at = resolution(section, image.um_per_px, settings.mpp)
            remarks += at.remarks
            how = _cut(at, settings, image, remarks)
            small, scale = overview(image, _LONGEST)
            mask = tissue_mask(small)
            apart = min(how.side, pitch(section.xy, how.side))
            found = fits(small, scale, image.size, section.xy, apart, totals, mask)
            remarks += doubts(found, len(section))
            looked = Looked.of(len(section))
            where = section.barcodes, section.xy
            write_patches(parts["patches"], image, *where, how, workers=workers, look=looked.look, told=told)
            tissue = share_in(mask, section.xy, how.side, scale)
        obs["tissue"], obs["glass"], obs["sharpness"] = tissue, looked.glass, looked.sharpness
        remarks += quality_remarks(tissue, looked)
        draw(parts["checks"], section, small, scale, found, totals)
        uns |= _pictures(section, small, scale, at, parts["thumbnails"])
        row |= {"image": str(section.image or next(iter(section.pictures.values())).path), "um_per_px": at.um_per_px}
        row |= {"um_per_px_from": at.source, "tissue": float(tissue.mean()), "stain_correlation": found[0].correlation}
    uns[RECORD] = json.dumps({"mark": mark, "row": row, "remarks": remarks, "settings": asdict(settings)})
    finish(parts["adata"], obs, section.genes.table(), obsm, uns)
    return row | {"remarks": remarks}


def _obs(section: Section, patient: str) -> pd.DataFrame:
    obs = pd.DataFrame(index=pd.Index(section.barcodes.astype(object), name="barcode"))
    obs["section"] = section.name
    if patient:
        obs["patient"] = patient
    obs["in_tissue"] = 1
    if section.lattice is not None:
        obs["array_row"], obs["array_col"] = np.asarray(section.lattice).T
    obs["pxl_row_in_fullres"], obs["pxl_col_in_fullres"] = section.xy[:, 1], section.xy[:, 0]
    for column in section.obs if section.obs is not None else ():
        if column not in obs:
            obs[column] = section.obs[column].to_numpy()  # type: ignore[index]
    return obs


def _cut(at: Resolution, settings: Settings, image: SlideImage, remarks: list[str]) -> Cut:
    side = settings.patch_um / at.um_per_px
    finest = at.um_per_px * max(image.levels[0].downsample)
    if finest > _BLURRED:
        remarks.append(
            f"A px of the image is {finest:.1f} um wide: nuclei cannot be seen at that size, and patches are blurred."
        )
    return Cut.of(image, side, settings.patch_px, at.um_per_px, settings.jpeg)


def _pictures(section: Section, small: np.ndarray, scale: float, at: Resolution, thumbnail: Path) -> dict[str, Any]:
    """`uns["spatial"]` as scanpy and squidpy read it, and the thumbnail beside the section."""
    from PIL import Image

    images, factors = {}, dict(section.scalefactors)
    for name, picture in section.pictures.items():
        with Image.open(picture.path) as opened:
            images[name] = np.asarray(opened.convert("RGB"))
        factors[f"tissue_{name}_scalef"] = picture.scale
    if "hires" not in images:
        images["hires"], factors["tissue_hires_scalef"] = small, scale
    factors.setdefault("spot_diameter_fullres", 0.55 * pitch(section.xy, 100.0))
    ratio = min(1.0, _THUMBNAIL / max(small.shape[:2]))
    size = (max(1, round(small.shape[1] * ratio)), max(1, round(small.shape[0] * ratio)))
    Image.fromarray(small).resize(size, Image.Resampling.BOX).save(thumbnail, "JPEG", quality=85)
    library = {"images": images, "scalefactors": factors, "metadata": {**section.metadata, "um_per_px": at.um_per_px}}
    return {"spatial": {section.name: library}, "thumbnail_scale": scale * size[0] / small.shape[1]}
