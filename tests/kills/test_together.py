"""Two processes on one run, one cache, one study, one report: one result, and for who comes second one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.harness import Scenario, scenarios, start, uninterrupted


def at_once(scenario: Scenario, folder: Path, n: int) -> list[int]:
    """Exit statuses of the same command, given several times at once."""
    processes = [start(folder, scenario.target, *scenario.given, said=f"said-{i}.txt") for i in range(n)]
    for process in processes:
        process.join(1200)
        assert not process.is_alive()
    return [int(process.exitcode or 0) for process in processes]


@pytest.mark.parametrize("name", ["import", "train", "grid", "search", "report"])
def test_the_same_command_three_times_at_once(name: str, stock: Path, tmp_path: Path) -> None:
    scenario = scenarios(epochs=2)[name]
    truth, _ = uninterrupted(scenario, stock, tmp_path / "whole")
    scenario.prepare(tmp_path / "shared", stock)
    statuses = at_once(scenario, tmp_path / "shared", 3)
    assert 0 in statuses
    for i, status in enumerate(statuses):
        said = (tmp_path / "shared" / f"said-{i}.txt").read_text()
        assert "Traceback" not in said, said
        if status:
            assert status == 2
            assert "is being trained by process" in said
    assert scenario.outcome(tmp_path / "shared") == truth
    assert scenario.left_over(tmp_path / "shared") == []
