"""The table of kills: python -m tests.kills.table_of_kills [--kills 30] [--load N] [NAME ...]

Every command is killed at random moments until it has been hit so often, in folders of five kills each, beside N
processes that keep the processor busy. Prints how many results were lost, duplicated, changed, or left over.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

from tests.kills.harness import Tally, make_stock, scenarios, under_kills, uninterrupted

IN_A_FOLDER = 5


def busy() -> None:
    while True:
        pass


def row(name: str, stock: Path, place: Path, kills: int, seed: int) -> Tally:
    """All folders of one command."""
    scenario, rng, total = scenarios()[name], random.Random(f"{name} {seed}"), Tally()
    truth, seconds = uninterrupted(scenario, stock, place / name / "whole")
    while total.kills < kills:
        found = under_kills(
            scenario,
            stock,
            place / name / str(total.rounds),
            truth,
            seconds,
            min(IN_A_FOLDER, kills - total.kills),
            rng,
        )
        for field in ("kills", "rounds", "wrong", "lost", "more", "left_over"):
            setattr(total, field, getattr(total, field) + getattr(found, field))
        if found.said:
            print(found.said, flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(scenarios()))
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--load", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    load = [multiprocessing.get_context("spawn").Process(target=busy, daemon=True) for _ in range(given.load)]
    with tempfile.TemporaryDirectory() as place:
        stock = make_stock(Path(place) / "stock")
        for process in load:
            process.start()
        print("command   kills  folders  lost  duplicated  changed  left over  minutes", flush=True)
        for name in given.names:
            began = time.monotonic()
            t = row(name, stock, Path(place), given.kills, given.seed)
            minutes = (time.monotonic() - began) / 60
            print(
                f"{name:<9} {t.kills:>5} {t.rounds:>8} {t.lost:>5} {t.more:>11} {t.wrong:>8} {t.left_over:>10} "
                f"{minutes:>8.1f}",
                flush=True,
            )
        for process in load:
            process.kill()


if __name__ == "__main__":
    main()
