"""Where a result comes from: data, split, code, versions, machine, seed, time and memory."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agl import registry
from agl.config import Component, Config
from agl.runs.choosing import option_configs
from agl.runs.resolve import components

if TYPE_CHECKING:
    from agl.data.dataset import Dataset
    from agl.training.experiment import Experiment

PACKAGES = (
    "agl",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "anndata",
    "higher",
    "optuna",
    "torchmetrics",
)


def run_id(config: Config, dataset: Dataset) -> str:
    """Twelve hex digits for one run: its complete config, the content of its data and of its plugin files.

    Where things lie (`output`, `name`, `data.root`, `data.cache`) is no part of it, nor who reads them
    (`training.workers`); the data's content is.
    """
    tree = config.to_dict()
    for key in ("output", "name"):
        del tree[key]
    given = ("root", "cache", "simulate", "features", "context", "normalise", "places", "formats")
    for key in given:  # what they give has a key
        tree["data"].pop(key, None)
    del tree["training"]["workers"]
    content = {
        "config": _without_paths(tree),
        "data": dataset.key,
        "files": registry.file_digests(_all_components(config)),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _all_components(config: Config) -> list[Component]:
    """Those of the config, and of what it may yet choose."""
    return [each for one in [config, *option_configs(config)] for each in components(one)]


def _without_paths(tree: Any) -> Any:
    """What a `path` or `folder` argument names is hashed by content, not by place."""
    if isinstance(tree, dict):
        return {key: _without_paths(value) for key, value in tree.items() if key not in ("path", "folder")}
    return [_without_paths(item) for item in tree] if isinstance(tree, list) else tree


def run_provenance(experiment: Experiment, seconds: float, costs: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Everything a reader may ask about one run."""
    import torch

    from strank.losses import native

    dataset, split = experiment.dataset, experiment.split
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        **({"seconds_of": dict(costs)} if costs else {}),
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "command": sys.argv[1:],
        "code": code_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "compiled_losses": native.library is not None,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "seed": experiment.config.seed,
        "data": {
            "root": experiment.config.data.root or "simulated",
            "key": dataset.key,
            "spots": dataset.report.get("spots") or spots_key(dataset),
            "report": dataset.report,
        },
        "split": split_provenance(split, dataset),
        "plugin_files": registry.file_digests(_all_components(experiment.config)),
    }


def spots_key(dataset: Dataset, thinned: float = 1.0, library: str = "measured") -> str:
    """A hash of what is ranked: spots, genes and library sizes, whatever features they are ranked by.

    `thinned`: to which share the test spots' counts are, later; `library`: as `data.library`.

    Library sizes are sorted, so that permuted counts (the negative control) are still those of the same spots.
    """
    digest = hashlib.sha256()
    for column in ("slide", "barcode"):
        digest.update("\n".join(dataset.spots[column].astype(str)).encode())
    digest.update("\n".join(dataset.genes).encode())
    digest.update(np.sort(np.asarray(dataset.library_size, dtype=np.int64)).tobytes())
    digest.update(b"" if thinned == 1 else repr(thinned).encode())
    digest.update(b"" if library == "measured" else library.encode())
    return digest.hexdigest()


def split_provenance(split: Any, dataset: Dataset) -> dict[str, Any]:
    """Name and protocol of a split, its spots and slides per part, and a hash of which spots they are."""
    parts = {name: getattr(split, name) for name in ("train", "validation", "test")}
    digest = hashlib.sha256()
    for spots in parts.values():
        digest.update(np.asarray(spots, dtype=np.int64).tobytes())
    slides = {name: sorted(set(dataset.spots.slide.iloc[spots])) for name, spots in parts.items()}
    return {
        "name": split.name,
        "protocol": split.protocol,
        "optimistic": split.optimistic,
        "spots": {name: len(spots) for name, spots in parts.items()},
        "slides": slides,
        "sha256": digest.hexdigest(),
    }


@cache
def code_version() -> dict[str, Any]:
    """Commit of the checkout this package runs from, and whether it was changed since; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return {
            "commit": commit,
            "changed": bool(_git(here, "status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
