"""`agl check`, `features`, `simulate`: folders of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agl.cli.printing import AsJson, print_json
from agl.errors import UserError


def check(
    path: Annotated[Path, typer.Argument(help='A folder of sections; "example": those in the package.')],
    features: Annotated[str, typer.Option(help="auto, builtin, none, or a folder of feature files.")] = "auto",
    own: Annotated[list[str] | None, typer.Option("--format", help="A feature-file format, mine.py:Name.")] = None,
    min_matched: Annotated[float, typer.Option(help="As data.min_matched: share of spots that need features.")] = 0.5,
    as_json: AsJson = False,
) -> None:
    """The doctor: sections, patients, spots, genes, depth, what will be used, what is wrong and how to mend it."""
    from rich.console import Console

    from agl.data.checking.doctor import check as examine
    from agl.data.example import folder_named

    report = examine(folder_named(str(path)), features=features, formats=own or (), min_matched=min_matched)
    print_json(report.to_dict()) if as_json else report.render(Console())
    if report.status == "error":
        raise typer.Exit(2)


def features(
    root: Annotated[Path, typer.Argument(help="A folder with patches/.")],
    encoder: Annotated[str, typer.Option(help="builtin, or a name or path for the `encoders` extra.")] = "builtin",
    out: Annotated[Path | None, typer.Option(help="Default: ROOT/embeddings/ENCODER.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local file of weights for a named encoder.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of a named encoder on a GPU: auto (fp16), fp32, fp16, bf16.")
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Patches at one time; halved by itself where a GPU's memory runs out.")
    ] = None,
) -> None:
    """Turn patches into features, one HEST-bench-style file a section. Finished sections are kept."""
    from agl.data.images.folder import extract_folder
    from agl.progress import display

    with display() as progress:
        folder = extract_folder(
            root, out=out, encoder=encoder, weights=weights, device=device, batch_size=batch_size, precision=precision,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"Wrote {folder}")


SIMULATE = """Options, key=value:

\b
  preset=standard          standard, easy, hard or misleading
  n_patients=4             slides_per_patient=1
  spots_per_slide=150      n_genes=600
  n_primary=50             patch_size=64
  features=patches         or latent: no pictures, ready-made features
  nonlinear=0.0            share of what genes follow that is no linear relation
  seed=0                   overwrite=false"""


def simulate(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
) -> None:
    """Sections with patches, features, counts and the truth behind them, in HEST-bench's layout."""
    from agl.data.simulate.embedded import simulation_options
    from agl.data.simulate.task import simulate as write_sections

    if "=" in out.name:
        raise UserError(
            f"Expected a folder to write before the options, received {str(out)!r}. Write agl simulate FOLDER {out}."
        )
    typer.echo(f"Wrote {write_sections(out, **simulation_options(words or []))}")
