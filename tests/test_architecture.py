"""Imports point one way, from room to room and from module to module, and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module belongs to the longest name that it begins with; a room may import from its own line and those above it.
ORDER = [
    ["strank"],
    [
        "agl.errors",
        "agl.extras",
        "agl.hub",
        "agl.leftovers",
        "agl.places",
        "agl.seeds",
        "agl.values",
        "agl.trees",
        "agl.slots",
        "agl.builtins",
        "agl.blame",
        "agl.machine",
        "agl.progress",
    ],
    ["agl.origins"],
    ["agl.config"],
    ["agl.arguments", "agl.registry", "agl.catalogue"],
    ["agl.data"],
    ["agl.preparing"],
    ["agl.nuisances"],
    ["agl.scoring"],
    ["agl.genes"],
    ["agl.data.checking"],
    ["agl.convex"],
    ["agl.models"],
    ["agl.estimators"],
    ["agl.bilevel"],
    ["agl.training"],
    ["agl.prediction"],
    ["agl.runs"],
    ["agl.studies"],
    ["agl.analysis"],
    ["agl.reporting"],
    ["agl.papers"],
    ["agl.testing"],
    ["agl.api"],
    ["agl.cli"],
    ["agl.__main__"],
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
SOURCES = sorted([*ROOT.glob("agl/**/*.py"), *ROOT.glob("strank/**/*.py")])


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in SOURCES}


def room_of(module: str) -> str:
    parts = module.split(".")
    return next((room for size in range(len(parts), 0, -1) if (room := ".".join(parts[:size])) in RANK), "(in no room)")


@cache
def imports(module: str) -> frozenset[str]:
    """Our modules that a module imports anywhere: at the top, inside functions, for the type checker."""
    if module == "agl":
        return frozenset()  # the front door: what it offers is imported when somebody asks for it
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} imports relatively"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & MODULES.keys()) or {node.module}
    return frozenset(found & MODULES.keys()) - {module}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "agl"])
def test_imports_point_one_way(module: str) -> None:
    here = room_of(module)
    assert here in RANK, f"{module} is in no room of ORDER"
    for other in imports(module):
        if other != "agl":
            assert RANK[room_of(other)] <= RANK[here], f"{module} must not import {other}"


def test_nothing_but_the_command_line_imports_what_reproduces_a_paper() -> None:
    users = {room_of(module) for module in MODULES for other in imports(module) if other.startswith("agl.papers")} - {
        "agl.papers"
    }
    assert users <= {"agl.cli"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles() == []


def circles() -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(imports(module)):
            if other not in order:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in MODULES:
        if module not in order:
            visit(module)
    return found


@pytest.mark.parametrize("module", ["agl", "agl.cli", "agl.config", "agl.registry"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = ["torch", "anndata", "sklearn", "matplotlib", "torchmetrics", "scipy", "optuna", "tensorboard", "h5py"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ANALYSIS = [name for name in MODULES if name.startswith("agl.analysis.")]


@pytest.mark.parametrize(
    ("modules", "without"),
    [(["agl.runs.execute"], "optuna"), ([*ANALYSIS, "agl.cli.printing", "agl.cli.runs"], "matplotlib")],
    ids=["a run needs no study", "numbers need no figures"],
)
def test_rooms_do_without_what_they_need_not(modules: list[str], without: str) -> None:
    code = f"import sys, {', '.join(modules)}; print({without!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_strank_is_usable_alone() -> None:
    code = "import sys, strank; print([m for m in sys.modules if m.split('.')[0] in ('agl', 'torchmetrics')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
