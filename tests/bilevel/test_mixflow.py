"""Forward over reverse in torch.func, as the benchmark writes it: one more witness of the engines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from agl import registry
from agl.bilevel.settings import InnerSettings
from agl.testing.engines import small_problem, trained

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks" / "mixflow.py"


@pytest.fixture(scope="module")
def mixflow():
    spec = importlib.util.spec_from_file_location("mixflow", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mixflow


@pytest.mark.parametrize("trunk", ["mlp", "dropout", "batchnorm"])
def test_it_finds_what_reverse_finds(mixflow, trunk: str) -> None:
    problem, batch = small_problem(trunk)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    trained(problem, batch, optimizer)
    inner, outer = [batch() for _ in range(4)], batch()
    found, expected = (
        engine(problem, inner, outer, InnerSettings(optimizer, seed=7))
        for engine in (mixflow, registry.find("engine", "reverse"))
    )
    assert found.outer_after == pytest.approx(expected.outer_after, rel=1e-12)
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-9, atol=1e-12)
    for name, value in expected.phi.items():
        torch.testing.assert_close(found.phi[name], value, rtol=1e-9, atol=1e-12)
