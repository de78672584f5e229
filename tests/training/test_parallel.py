"""Several processes on one training give the result of one: `torchrun` on this machine's CPU, over gloo."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from agl.training.parallel import Ranks, alone, current

PROCESSES = Path(__file__).with_name("processes.py")


def torchrun(*words: str, size: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("processes", PROCESSES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict[str, dict]:
    file = tmp_path_factory.mktemp("parallel") / "found.json"
    done = torchrun(str(PROCESSES), str(file))
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


TOLERANCE = {"training, learned selection": 2e-4, "training, gated, partners drawn": 2e-4}  # some 20 steps in float32


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "one spot",
        "norm of features",
        "norm of maps",
        "norm, plain average",
        "norm, one spot",
        "in turn",
        "training, learned selection",
        "training, gated, partners drawn",
        "training from pixels",
    ],
)
def test_two_processes_compute_what_one_does(of_two, cases, name) -> None:
    of_one, rough = cases.CASES[name](Ranks()), TOLERANCE.get(name, 2e-6)
    assert of_two[name].keys() == of_one.keys()
    assert of_two[name].get("files") == of_one.pop("files", None)
    for key, expected in of_one.items():
        np.testing.assert_allclose(np.array(of_two[name][key]), np.array(expected), rtol=rough, atol=rough, err_msg=key)


def test_every_case_is_compared(cases) -> None:
    marks = test_two_processes_compute_what_one_does.pytestmark
    assert [*cases.CASES] == next(mark.args[1] for mark in marks if mark.name == "parametrize")


def test_the_leader_decides(of_two) -> None:
    assert of_two["leader"] == "leader"


@pytest.mark.parametrize("n", [0, 1, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_and_turns_are_everything_once(n, size) -> None:
    ranks = [Ranks(rank, size) for rank in range(size)]
    assert [i for each in ranks for i in range(n)[each.share(n)]] == list(range(n))
    assert sorted(i for each in ranks for i in each.round_robin(n)) == list(range(n))
    sizes = [len(range(n)[each.share(n)]) for each in ranks]
    assert max(sizes) - min(sizes) <= 1


def test_alone_is_over_when_it_is_over() -> None:
    with pytest.raises(KeyError), alone():
        raise KeyError
    assert current() == Ranks()


def test_a_study_does_not_share_runs() -> None:
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    words = [sys.executable, "-m", "agl", "grid", "study.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2
    assert "Expected `agl train` under torchrun" in done.stderr
    assert "--jobs" in done.stderr
