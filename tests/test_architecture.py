"""Imports point one way, and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    {"strank"},
    {"agl.errors", "agl.blame", "agl.machine", "agl.trees", "agl.config", "agl.registry", "agl.seeds", "agl.progress"},
    {"agl.convex"},
    {"agl.data", "agl.genes"},
    {"agl.models"},
    {"agl.bilevel"},
    {"agl.training"},
    {"agl.studies"},
    {"agl.synthetic", "agl.hest"},
    {"agl.report"},
    {"agl.testing"},
    {"agl.cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    name = "strank" if parts[0] == "strank" else ".".join(parts[:2])
    return name if name in RANK else None


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


SOURCES = sorted([*ROOT.glob("agl/**/*.py"), *ROOT.glob("strank/**/*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if here is None:
        return
    for module in imported(path):
        there = room_of(module)
        if there is not None:
            assert RANK[there] <= RANK[here], f"{here} must not import {module}"


@pytest.mark.parametrize("module", ["agl.cli", "agl.config", "agl.registry"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = ["torch", "anndata", "sklearn", "matplotlib", "torchmetrics", "scipy", "optuna", "tensorboard", "h5py"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_strank_is_usable_alone() -> None:
    code = "import sys, strank; print([m for m in sys.modules if m.split('.')[0] in ('agl', 'torchmetrics')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
