"""`agl prepare`: from a sequencer's folder and a scanner's image to a folder of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agl.cli.printing import AsJson, print_json


def prepare(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders of Space Ranger (Visium, HD) or Xenium; h5ad; see README.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    image: Annotated[
        str | None, typer.Option(help="Full-resolution image; of several sections: a path with {section}.")
    ] = None,
    patch_um: Annotated[float, typer.Option(help="Side of a patch in um.")] = 112.0,
    patch_px: Annotated[int, typer.Option(help="Side of a patch in px.")] = 224,
    mpp: Annotated[float | None, typer.Option(help="um per px of the image, where nothing else tells.")] = None,
    bin_um: Annotated[
        float | None, typer.Option(help="Visium HD, Xenium: side of the spots to make, in um; 0: as they are.")
    ] = None,
    alignment: Annotated[str | None, typer.Option(help="Xenium: the image's alignment matrix, a CSV.")] = None,
    patient: Annotated[str | None, typer.Option(help="One name, or a CSV with section and patient.")] = None,
    jpeg: Annotated[int | None, typer.Option(help="Store patches as JPEG of this quality, 1 to 100.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that cut patches.")] = 1,
    trident: Annotated[str | None, typer.Option(help="20x_256px: also TRIDENT's file of coordinates.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write adata/, patches/ and sections.csv, which all other commands read. Finished sections are kept."""
    from agl.api import preparing

    done = preparing.prepare(
        sources, out, image=image, patch_um=patch_um, patch_px=patch_px, mpp=mpp, bin_um=bin_um, alignment=alignment,
        patient=patient, jpeg=jpeg, workers=workers, trident=trident,
    )  # fmt: skip
    for section, remarks in done.remarks.items():
        for remark in remarks:
            typer.echo(f"{section}: {remark}", err=True)
    if as_json:
        print_json({"folder": str(done.folder), "sections": done.table.to_dict("records"), "failed": done.failed})
    else:
        kept = f", {len(done.kept)} of them finished before" if done.kept else ""
        typer.echo(f"Wrote {done.folder}: {len(done.remarks)} sections{kept}")
    for section, why in done.failed.items():
        typer.echo(f"agl: {section}: {why}", err=True)
    if done.failed:
        raise typer.Exit(2)
