"""A few seeded kills of every command; `table_of_kills.py` makes thirty and more of each, under load."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kills.harness import scenarios, under_kills, uninterrupted

KILLS = {"import": 4, "train": 2, "grid": 2, "search": 2, "report": 3}


@pytest.mark.parametrize("name", KILLS)
def test_after_kills_the_same_command_gives_the_same_bytes(name: str, stock: Path, tmp_path: Path) -> None:
    scenario = scenarios(epochs=3)[name]
    truth, seconds = uninterrupted(scenario, stock, tmp_path / "whole")
    assert truth
    tally = under_kills(scenario, stock, tmp_path / "killed", truth, seconds, KILLS[name], random.Random(name))
    assert tally.kills >= 1
    assert (tally.lost, tally.more, tally.wrong, tally.left_over) == (0, 0, 0, 0), tally.said
