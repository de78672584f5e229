"""A grid: every combination of the values on its axes, each cell a config, each config its runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.config import Config, validate
from agl.errors import UserError, did_you_mean
from agl.trees import apply_override, is_override, merge, overrides, parse_value, read_yaml

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.runs.folder import Run

MANY = 10_000  # cells that are queued without asking


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

    @property
    def size(self) -> int:
        """Combinations, those that are skipped and those that come to the same included."""
        return math.prod(map(len, self.axes.values()))

    def cells(self) -> list[list[str]]:
        """Every cell as dotted overrides, in the order of the axes, the last one fastest."""
        found: dict[tuple[str, ...], None] = {}
        for values in itertools.product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            if any(all(point.get(key) == value for key, value in rule.items()) for rule in self.skip):
                continue
            found[tuple(word for key, value in point.items() for word in overrides(key, value))] = None
        return [list(words) for words in found]

    def config(self, cell: Sequence[str]) -> Config:
        """The config of one cell."""
        tree = json.loads(json.dumps(self.shared))
        for word in cell:
            apply_override(tree, word)
        return validate(tree)


def read_grid(path: str | Path, words: Sequence[str] = (), *, many: bool = False) -> Grid:
    """A study file, with overrides on its shared config. `axes.seed=[0]` overrides an axis.

    Raises:
        UserError: a file that is no grid; more cells than `MANY` without `many`.
    """
    check_words(words)
    tree = read_yaml(path)
    tree.pop("quick", None)  # see agl.studies.quick
    axes, skip = tree.pop("axes", None) or {}, tree.pop("skip", None) or []
    shared: dict[str, Any] = {}
    merge(shared, tree)
    for word in words:
        key, _, text = word.partition("=")
        if key.startswith("axes.") and isinstance(axes, dict):
            axes[key.removeprefix("axes.")] = parse_value(text, word)
        else:
            apply_override(shared, word)
    return grid_of(shared, axes, skip, str(path), many=many)


def grid_of(shared: dict[str, Any], axes: Any, skip: Any, where: str, *, many: bool = False) -> Grid:
    """A grid that was checked; `where` it was written, for messages."""
    if not isinstance(axes, dict) or not axes:
        raise UserError(
            f"Expected `axes:` with a list of values for each key in {where}, e.g. axes: {{loss: [mse, listwise]}}."
        )
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"Expected a list of values on the axis {key!r} in {where}, received {values!r}.")
    if not isinstance(skip, list) or not all(isinstance(rule, dict) and rule for rule in skip):
        raise UserError(f"Expected `skip:` as a list like [{{loss: mse, seed: 2}}] in {where}, received {skip!r}.")
    for key in (key for rule in skip for key in rule):
        if key not in axes:
            raise UserError(
                f"Expected the name of an axis in `skip:` of {where}, received {key!r}.{did_you_mean(key, axes)}"
            )
    grid = Grid(shared, axes, skip)
    sizes = " x ".join(f"{key} {len(values)}" for key, values in axes.items())
    refuse_many(grid.size, f"cells in the grid of {where} ({sizes})", many)
    if not grid.cells():
        raise UserError(
            f"Expected `skip:` to leave some cells of the grid in {where}, received rules that leave none. Remove one."
        )
    return grid


def train_cells(grid: Grid, *, progress: Progress) -> list[Run]:
    """Train every cell, one after another, without a storage; cells that are finished are kept."""
    from agl.runs.train import prepare, train_each
    from agl.training.sharing import Sharing

    sharing = Sharing()
    configs = [grid.config(cell) for cell in grid.cells()]  # all are valid before the first is trained
    bar = progress.add_task("cells", total=len(configs), note="")
    runs: dict[Path, Run] = {}
    for config in configs:
        for run in train_each(prepare(config, sharing), progress=progress):
            runs[run.folder] = run
        progress.advance(bar)
    progress.remove_task(bar)
    return list(runs.values())


def refuse_many(n: int, what: str, many: bool) -> None:
    """More than anybody means to train is most likely a slip; `--yes` says that it is none."""
    if n > MANY and not many:
        raise UserError(f"Expected at most {MANY:,} {what}, received {n:,}. Take fewer, or say --yes if you mean it.")


def check_words(words: Sequence[str]) -> None:
    """Overrides only: the study file itself has been named already."""
    for word in words:
        if not is_override(word):
            raise UserError(
                f"Expected an override like training.epochs=50, received {word!r}. Write key=value without spaces."
            )
