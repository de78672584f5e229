"""Writing so that a file is either the old one or the new one, never half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agl.errors import refuse_to_write
from agl.leftovers import replacing


def write_text(path: Path, text: str) -> None:
    """Text in UTF-8."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def sweep_parts(folder: Path) -> None:
    """Remove what a killed writer left half-written, in a folder that only this process writes to."""
    for part in folder.rglob("*.part"):
        if part.is_file():
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """JSON without NaN (null instead)."""
    write_text(path, json.dumps(plain(content), indent=2, default=refuse_to_write) + "\n")


def plain(value: Any) -> Any:
    """Only what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
