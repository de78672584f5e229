"""A grid: every combination of the values on its axes, each cell a config, each config its runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.config import Config, apply_override, is_override, merge, read_yaml, validate
from agl.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.studies.runs import Run


@dataclass(frozen=True)
class Grid:
    """A study file: the config all cells share, its axes, and the combinations left out.

    `axes` maps a dotted key to its values; a value that is itself a mapping sets several keys at once:

        axes:
          loss: [mse, listwise]
          protocol:
            - {split.name: leave_one_patient_out}
            - {split.name: leave_one_slide_out, split.patient: C}
          seed: [0, 1, 2]
        skip:
          - {loss: mse, seed: 2}
    """

    shared: dict[str, Any]
    axes: dict[str, list[Any]]
    skip: list[dict[str, Any]]

    def cells(self) -> list[list[str]]:
        """Every cell as dotted overrides, in the order of the axes, the last one fastest."""
        found: list[list[str]] = []
        for values in itertools.product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            if any(all(point.get(key) == value for key, value in rule.items()) for rule in self.skip):
                continue
            words = [word for key, value in point.items() for word in _overrides(key, value)]
            if words not in found:
                found.append(words)
        return found

    def config(self, cell: Sequence[str]) -> Config:
        """The config of one cell."""
        tree = json.loads(json.dumps(self.shared))
        for word in cell:
            apply_override(tree, word)
        return validate(tree)


def read_grid(path: str | Path, words: Sequence[str] = ()) -> Grid:
    """A study file, with overrides on its shared config. `axes.seed=[0]` overrides an axis."""
    tree = read_yaml(path)
    for word in words:
        if not is_override(word):
            raise UserError(
                f"Expected an override like training.epochs=50, received {word!r}. Write key=value without spaces."
            )
    for word in words:
        key, _, text = word.partition("=")
        if key.startswith("axes."):
            from agl.config import parse_value

            tree.setdefault("axes", {})[key.removeprefix("axes.")] = parse_value(text, word)
    axes, skip = tree.pop("axes", None), tree.pop("skip", [])
    if not isinstance(axes, dict) or not axes or not all(isinstance(v, list) and v for v in axes.values()):
        raise UserError(
            f"Expected `axes:` with a list of values for each key in {path}, e.g. axes: {{loss: [mse, listwise]}}."
        )
    shared: dict[str, Any] = {}
    merge(shared, tree)
    for word in words:
        if not word.startswith("axes."):
            apply_override(shared, word)
    return Grid(shared, axes, skip)


def train_grid(path: str | Path, words: Sequence[str] = (), *, progress: Progress) -> list[Run]:
    """Train every cell of a study file."""
    return train_cells(read_grid(path, words), progress=progress)


def train_cells(grid: Grid, *, progress: Progress) -> list[Run]:
    """Train every cell, one after another; cells that are finished are kept."""
    from agl.studies.train import prepare, train_each

    configs = [grid.config(cell) for cell in grid.cells()]  # all are valid before the first is trained
    bar = progress.add_task("cells", total=len(configs), note="")
    runs: dict[Path, Run] = {}
    for config in configs:
        for run in train_each(prepare(config), progress=progress):
            runs[run.folder] = run
        progress.advance(bar)
    progress.remove_task(bar)
    return list(runs.values())


def _overrides(key: str, value: Any) -> list[str]:
    """`loss: {name: pearson, pooled: true}` and `anything: {a.b: 1}` as dotted words."""
    if not isinstance(value, dict):
        return [f"{key}={json.dumps(value)}"]
    if "name" in value:
        rest = [f"{key}.{k}={json.dumps(v)}" for k, v in value.items() if k != "name"]
        return [f"{key}={json.dumps(value['name'])}", *rest]
    return [word for k, v in value.items() for word in _overrides(k, v)]
