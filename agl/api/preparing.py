"""From a sequencer's folder and a scanner's image to a folder of sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agl.preparing.prepare import Prepared


def prepare(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    image: str | Path | None = None,
    patch_um: float = 112.0,
    patch_px: int = 224,
    mpp: float | None = None,
    bin_um: float | None = None,
    alignment: str | Path | None = None,
    patient: str | Path | Mapping[str, str] | None = None,
    jpeg: int | None = None,
    workers: int = 1,
    trident: str | None = None,
    progress: bool = True,
) -> Prepared:
    """Write the folder that everything else reads, from what sequencers and scanners leave behind.

    Finished sections are kept, and one that fails leaves the others whole: see `failed` of what is returned.

    Args:
        sources: folders or files: Space Ranger's outs/ (Visium, Visium HD), Xenium's folder, a 10x matrix with its
            table of spots, tables of Spatial Transcriptomics, h5ad, AnnData's and SpatialData's Zarr.
        out: the folder to write.
        image: full-resolution image; with several sections a path with {section}. Default: what lies beside.
        patch_um, patch_px: side of a patch in um and in px.
        mpp: um a px of the image, where neither its tags nor the spots tell.
        bin_um: side of the spots to make of smaller units (Visium HD, Xenium); 0: as they are.
        alignment: 3 x 3 matrix of the image (Xenium).
        patient: one name, a table with section and patient, or a dict.
        jpeg: quality 1 to 100, to store patches as JPEG in a tenth of the space.
        workers: threads that cut patches.
        trident: "20x_256px": also write the coordinates at which TRIDENT's encoders are to look.

    >>> prepare("SAMPLE/outs", "mine", image="SAMPLE.tif", patient="P1")  # doctest: +SKIP
    """
    from agl.preparing.prepare import prepare_sections
    from agl.preparing.writing import Settings
    from agl.progress import display

    given = [sources] if isinstance(sources, str | Path) else list(sources)
    with display(shown=progress) as bars:
        return prepare_sections(
            given,
            out,
            Settings(patch_um, patch_px, mpp, bin_um, jpeg),
            image=image,
            alignment=alignment,
            patient=patient,
            workers=workers,
            trident=trident,
            progress=bars,
        )
