"""The short form of a study: its own file says what to cut."""

from __future__ import annotations

from pathlib import Path

from agl.errors import UserError
from agl.trees import read_yaml, written


def quick_words(path: str | Path) -> list[str]:
    """The overrides under `quick:` of a study file, and another name, so that both forms keep their runs apart.

        quick:
          training.epochs: 3
          axes.seed: [0]
          search.trials: 4

    Raises:
        UserError: a study without `quick:`.
    """
    tree = read_yaml(path)
    quick = tree.get("quick")
    if not isinstance(quick, dict) or not quick:
        raise UserError(
            f"Expected `quick:` with overrides in {path}, e.g. quick: {{training.epochs: 3, axes.seed: [0]}}, "
            f"{'found none' if quick is None else f'received {quick!r}'}; add it, or leave --quick out."
        )
    name = f"name={written(str(tree.get('name', Path(path).stem)) + '_quick')}"
    return [name, *(f"{key}={written(value)}" for key, value in quick.items())]
