"""`agl demo`, cut to its quickest methods."""

from __future__ import annotations

import json

import pytest

from agl.config import validate
from agl.studies import demo
from agl.studies.grid import Grid


def test_every_method_is_a_config() -> None:
    for data, methods in ((demo.REAL_DATA, demo.METHODS), (demo.PLANTED_DATA, demo.PLANTED)):
        grid = Grid({"data": data, "training": demo.TRAINING}, {"method": methods}, [])
        assert len(grid.cells()) == len(methods)
        for cell in grid.cells():
            validate(grid.config(cell).to_dict())


def test_it_runs_on_the_real_sections_and_on_planted_ones(agl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAINING", {"epochs": 1})
    monkeypatch.setattr(demo, "METHODS", [{"model": "ridge"}, {"model": "committee", "auxiliary.genes": "none"}])
    monkeypatch.setattr(demo, "PLANTED", [{"model": "mlp", "loss": "listwise"}])
    status, out, err = agl("demo", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert [(row["data"], row["model"], row["runs"]) for row in found["methods"]] == [
        ("example", "committee", 3),
        ("example", "ridge", 3),
        ("simulated", "mlp(start=low_rank)", 3),
    ]
    assert found["methods"][0]["scc"] > 0.1
    assert not any(run["optimistic"] for run in found["runs"])
