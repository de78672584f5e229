"""The data that come with the program: simulated sections, written to the cache the first time they are asked for."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import agl
from agl.data.reading.cache import cache_root
from agl.data.simulate.task import simulate
from agl.errors import DataError, did_you_mean
from agl.trees import is_override, parse_value


def simulated_folder(options: Mapping[str, Any], *, cache_dir: str | Path | None = None) -> Path:
    """The folder of the simulation with these options; the same options, the same folder."""
    chosen = checked(options)
    name = hashlib.sha256(json.dumps([agl.__version__, chosen], sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_root(cache_dir) / "simulated" / name
    if not (folder / "truth.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            simulate(folder, **chosen)
        except OSError:
            if not (folder / "truth.json").is_file():  # unless another process was faster
                raise
    return folder


def simulation_options(words: Sequence[str]) -> dict[str, Any]:
    """`preset=hard seed=3` as arguments of `simulate`.

    >>> simulation_options(["preset=hard", "seed=3"])
    {'preset': 'hard', 'seed': 3}
    """
    for word in words:
        if not is_override(word):
            raise DataError(f"Expected an option like spots_per_slide=300, received {word!r}. Write key=value.")
    pairs = (word.partition("=") for word in words)
    return checked({key: parse_value(text, key) for key, _, text in pairs})


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if `simulate` takes them."""
    known = [name for name in inspect.signature(simulate).parameters if name != "out"]
    for name in options:
        if name not in known:
            raise DataError(f"The simulation takes no option {name!r}.{did_you_mean(name, known)}")
    return dict(options)
