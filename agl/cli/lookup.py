"""`agl list` and `agl show`: what there is to choose from, and what a config means."""

from __future__ import annotations

from typing import Annotated

import typer

from agl.cli.printing import AsJson, Words, print_json


def list_(
    kind: Annotated[str | None, typer.Argument(help="losses, models, gene_sets, ...")] = None,
    as_json: AsJson = False,
) -> None:
    """The built-in components: all kinds, or one kind with its arguments."""
    from agl import registry
    from agl.builtins import WHERE
    from agl.catalogue import catalogue

    if kind is None:
        kinds = {name: registry.names(name) for name in WHERE}
        if as_json:
            print_json(kinds)
        else:
            typer.echo("".join(f"{name:<10} {', '.join(found)}\n" for name, found in kinds.items()), nl=False)
        return
    entries = catalogue(kind)
    if as_json:
        print_json(entries)
        return
    for name, entry in entries.items():
        typer.echo(f"{name:<24} {entry['summary']}")
        typer.echo("".join(f"{'':<24}   {key} = {value}\n" for key, value in entry["arguments"].items()), nl=False)


def show(words: Words = None, as_json: AsJson = False) -> None:
    """The resolved config, every default written out, and the run folder of every fold."""
    import yaml

    from agl.config import load
    from agl.runs.folder import Run, folder_of
    from agl.runs.train import prepare

    prepared = prepare(load(words or []))
    folders = {e.split.name: folder_of(e.config, e.dataset) for e in prepared.experiments}
    if as_json:
        print_json(
            {
                "config": prepared.config.to_dict(),
                "runs": {name: str(folder) for name, folder in folders.items()},
            }
        )
        return
    typer.echo(yaml.safe_dump(prepared.config.to_dict(), sort_keys=False), nl=False)
    for name, folder in folders.items():
        typer.echo(f"# {name:<18} {folder}{' (finished)' if Run(folder).finished else ''}")
