"""Hostile inputs of all kinds: each a sentence and exit status 2, or the right result; none hangs or leaves anything.

`python -m tests.hostile` prints what each gave as a table; `python -m tests.hostile WORD ...` those with a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.hostile.cases import CASES
from tests.hostile.stage import Case, Stage, staged

# The suite tries every eleventh, which meets every kind in every room; `make hostile` tries all, which takes minutes.
TRIED = CASES[::11]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.mark.parametrize("case", TRIED, ids=lambda case: case.id)
def test_a_hostile_input(stage: Stage, case: Case) -> None:
    outcome = stage.run(case)
    assert outcome.faults(case) == [], f"{' '.join(case.words)}\n{outcome.out[-2000:]}\n{outcome.err[-4000:]}"


def test_there_are_many_of_all_kinds() -> None:
    assert len(TRIED) >= 300
    assert [name for name, n in Counter(case.id for case in CASES).items() if n > 1] == []
    assert len({case.room for case in CASES}) >= 10
