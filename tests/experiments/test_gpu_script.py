"""The script for a machine with a GPU: runs on a CPU, with nothing installed but what `--wheels` names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
ALLOWED = ("numpy", "numpy.libs", "torch", "torchgen", "functorch", "h5py", "h5py.libs", "safetensors", "einops")
METRICS = ("torchmetrics", "torchmetrics-*", "lightning_utilities", "lightning_utilities-*", "packaging", "packaging-*")
OF_TORCH = ("typing_extensions.py", "filelock", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which Python sees these packages and no other."""
    site, folder = Path(torch.__file__).parents[1], tmp_path_factory.mktemp("site")
    for pattern in (*ALLOWED, *METRICS, *OF_TORCH):
        for path in site.glob(pattern):
            (folder / path.name).symlink_to(path)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_nothing_else_is_there(bare: dict[str, str]) -> None:
    assert "No module named 'pandas'" in run(bare, "-c", "import pandas").stderr


def test_all_parts_run_on_a_cpu_with_these_wheels_alone(bare: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    done = run(bare, str(SCRIPT), "--device", "cpu", "--minutes", "10", "--out", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "FAILED" not in text
    assert "DIFFERS" not in text
    assert "0 failures" in text
    for title in ("Right", "Losses", "Head and loss in one", "Hypergradients", "An epoch from patches", "Solved heads"):
        section = text.split(f"## {title}\n")[1].split("\n## ")[0]
        assert section.count("\n|") >= 3, f"{title} has no rows"
    assert "it needs the wheel pydantic" in text
    assert text.count("agrees") > 40


def test_a_wrong_value_is_noticed(bare: dict[str, str]) -> None:
    code = f"""
import runpy, sys, torch
sys.argv = ["gpu.py"]
script = runpy.run_path({str(SCRIPT)!r})
page = script["Page"](None)
page.check("x", script["difference"](torch.tensor([1.0, 2.1]), torch.tensor([1.0, 2.0])), 0.01)
page.check("y", script["difference"](torch.tensor([torch.nan]), torch.tensor([1.0])), 0.01)
print(page.failures)
"""
    done = run(bare, "-c", code)
    assert done.stdout.split()[-1] == "2", done.stderr
    assert done.stdout.count("DIFFERS") == 2


def test_wheels_are_named(bare: dict[str, str]) -> None:
    words = run(bare, str(SCRIPT), "--wheels").stdout.split()
    assert {"numpy", "h5py", "safetensors", "torchmetrics", "einops"} <= set(words)


def test_without_a_gpu_it_says_so(bare: dict[str, str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run(bare, str(SCRIPT))
    assert done.returncode == 2
    assert done.stderr.startswith("Expected a CUDA device")


def test_the_metrics_of_torchmetrics_need_no_more(bare: dict[str, str]) -> None:
    done = run(bare, "-c", "import strank; print(strank.SpearmanMetric.__name__)")
    assert done.stdout.strip() == "SpearmanMetric", done.stderr
