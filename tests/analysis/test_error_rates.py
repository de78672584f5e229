"""Where the truth is known: nested patients, slides, seeds, correlated genes, through the code that judges real runs.

Few draws here; `experiments/error_rates` has the whole table.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "experiments" / "error_rates" / "simulate.py"
DRAWS = 120


@pytest.fixture(scope="module")
def sim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_rates", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def at_most(rate: float) -> float:
    """Three standard errors of a binomial above it."""
    return rate + 3 * float(np.sqrt(rate * (1 - rate) / DRAWS))


@pytest.mark.parametrize("alone", [True, False], ids=["own trainings", "one training"])
def test_nothing_is_found_too_often_where_there_is_nothing(sim: ModuleType, alone: bool) -> None:
    rates = sim.null_rates(sim.World(genes=6, seeds=1 if alone else 3, alone=alone), DRAWS)
    for name in ("interval", "p", "claim"):
        assert rates[name] <= at_most(0.05), name
    assert rates["slides"] > at_most(0.05)  # what a test over nested slides would have said
    assert alone or rates["genes"] > at_most(0.05)


def test_seeds_in_common_would_be_taken_for_a_difference_without_their_variance(
    sim: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault planted again: the same draws, judged as if every patient had a training of its own."""
    world = sim.World(genes=6, seeds=2, alone=False, seed=0.03, patient=0.01)
    honest = sim.null_rates(world, DRAWS)
    real = sim.level_of
    monkeypatch.setattr(sim, "level_of", lambda sides, shared: real(sides, shared=False))
    naive = sim.null_rates(world, DRAWS)
    assert honest["claim"] <= at_most(0.05) < naive["claim"]


def test_a_difference_is_found_and_equality_too(sim: ModuleType) -> None:
    quiet = sim.World(genes=6, patient=0.004, slide=0.002, factor=0.002, gene=0.004, seed=0.002, noise=0.006)
    assert sim.rate(quiet, 30, 0.02, "better") > 0.9
    assert sim.rate(quiet, 30, 0.0, "within") > 0.6
    assert sim.rate(quiet, DRAWS, sim.MARGIN, "within") <= at_most(0.05)
