"""A run in TensorBoard's HParams view: its settings beside its numbers, in the run's own folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agl.config import Config

FIRST = (
    "loss.name",
    "model.name",
    "auxiliary.genes.name",
    "primary.name",
    "data.features",
    "split.name",
    "fold",
    "seed",
)
NOT_A_SETTING = ("name", "output", "data.root", "data.cache")  # where things lie


def write_hparams(folder: Path, config: Config, result: Mapping[str, Any]) -> None:
    """Add a run's settings and results to its TensorBoard folder.

    `SummaryWriter.add_hparams` would open a second run in a subfolder named by the time unless told `run_name="."`;
    here the three summaries are written into `folder` itself, so the scalars and the HParams row are one run.

    Args:
        folder: the run's `tb/`.
        config: every dotted key becomes a column; None is left out, a list is written as words.
        result: finite numbers become metrics called `test/NAME`, apart from the history's scalars, which are of
            validation spots.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    metrics = {f"test/{name}": float(value) for name, value in result.items() if _is_number(value)}
    writer = SummaryWriter(str(folder))
    try:
        for summary in hparams(hparam_values(config), metrics):
            writer._get_file_writer().add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value, 0)
    finally:
        writer.close()


def hparam_values(config: Config) -> dict[str, bool | int | float | str]:
    """The config as dotted keys with values that HParams can show; what studies vary stands first.

    >>> hparam_values(Config())["training.epochs"]
    200
    """
    found: dict[str, bool | int | float | str] = {}
    _collect(config.to_dict(), "", found)
    return {key: found[key] for key in sorted(found, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))}


def _collect(tree: Mapping[str, Any], prefix: str, found: dict[str, bool | int | float | str]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _collect(value, f"{name}.", found)
        elif value is not None and name not in NOT_A_SETTING:
            found[name] = value if isinstance(value, (bool, int, float, str)) else ", ".join(map(str, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
