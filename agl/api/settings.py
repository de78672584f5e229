"""Keyword arguments as a config: `loss="mse"`, `primary={"name": "moran", "k": 50}`, `**{"training.epochs": 5}`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agl.config import Config
from agl.data.memory import as_folder, in_memory
from agl.errors import UserError
from agl.trees import apply_override, merge, read_tree

Source = str | Path | Mapping[str, Any] | Config | Sequence[str] | None
SHORT = {"genes": "auxiliary.genes", "features": "data.features"}  # what is asked for most


def tree_of(
    data: Any, config: Source = None, *, slide: str = "slide", patient: str = "patient", **settings: Any
) -> dict[str, Any]:
    """A config's tree: `config` first (a file, a dict, a `Config`, or words as on the command line), then `settings`.

    >>> tree_of("example", loss="mse", genes="top", **{"training.epochs": 3})
    {'loss': 'mse', 'auxiliary': {'genes': 'top'}, 'training': {'epochs': 3}, 'data': {'root': 'example'}}
    """
    tree = _read(config)
    for key, value in settings.items():
        if value is not None:
            put(tree, SHORT.get(key, key), value)
    if data is not None and in_memory(data):
        features = tree.get("data", {}).get("features")
        cache = tree.get("data", {}).get("cache")
        root, keys = as_folder(data, features=features, slide=slide, patient=patient, cache=cache)
        put(tree, "data", {"root": str(root), "features": keys[0] if len(keys) == 1 else list(keys)})
    elif data is not None:
        put(tree, "data.root", os.fspath(data))
    return tree


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a mapping is laid over what is there."""
    plain = _plain(value)
    if isinstance(plain, Mapping):
        for part in reversed(key.split(".")):
            plain = {part: plain}
        merge(tree, plain)
    else:
        apply_override(tree, f"{key}={json.dumps(plain)}")


def _read(config: Source) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Config):
        return config.to_dict()
    if isinstance(config, Mapping):
        tree: dict[str, Any] = {}
        for key, value in config.items():
            put(tree, str(key), value)
        return tree
    return read_tree([config] if isinstance(config, str | os.PathLike) else list(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise UserError(
        f"Expected numbers, words, lists and dicts as settings, received {type(value).__name__}. A loss or model of "
        'your own is named by its file: loss="mine.py:my_loss".'
    )
