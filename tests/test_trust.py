"""No file that is read can run code: nothing in the program unpickles freely, evaluates text or asks a shell.

Only a Python file that the user names as a component is run, see `tests/test_origins.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for room in ("agl", "strank", "experiments", "benchmarks") for path in ROOT.glob(f"{room}/**/*.py")
)
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle"}
LOADERS = {"_Loader", "yaml.SafeLoader", "SafeLoader"}


def faults(tree: ast.AST) -> Iterator[str]:
    """What in some source could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _of_call(ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords})


def _of_call(name: str, words: dict[str | None, str]) -> Iterator[str]:
    if name in UNSAFE_CALLS:
        yield name
    if name == "torch.load" and words.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if words.get("allow_pickle", "False") != "False":
        yield f"{name} with allow_pickle"
    if words.get("shell", "False") != "False":
        yield f"{name} with a shell"
    if name == "yaml.load" and words.get("Loader") not in LOADERS:
        yield "yaml.load with another loader"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert list(faults(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "import torch\ntorch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "np.save(f, x, allow_pickle=flag)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_such_a_source_would_be_seen(source: str) -> None:
    assert list(faults(ast.parse(source)))


def test_sources_there_are() -> None:
    assert len(SOURCES) > 200
