"""`agl grid`, `search`, `worker`, `study` and `submit` as a user meets them, on small real runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agl.analysis.tables import runs_frame
from agl.runs.folder import Run, find_runs
from agl.studies.grid import read_grid, train_cells
from agl.studies.launch import queue_grid
from agl.studies.pool import WorkerPool, worker_environment
from agl.studies.study import open_study

TIMES = ["folder", "seconds", "peak_memory_mib", "finished"]


@pytest.fixture
def study_file(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)

    def write(rest: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(
            f"name: s\nfold: 0\ndata: {{root: {sections}, features: latent}}\nprimary: {{k: 10, min_detection: 0}}\n"
            f"model: {{name: mlp, hidden: [16]}}\ntraining: {{epochs: 3, batch_size: 32}}\n{rest}\n"
        )
        return path

    return write


GRID = "axes: {loss: [mse, listwise], seed: [0, 1]}"
SEARCH = (
    "auxiliary: {genes: coexpressed, min_detection: 0}\n"
    "search: {parameters: {auxiliary.genes.k: {low: 2, high: 60, log: true}}, trials: 3, folds: [0]}"
)


def numbers(runs: list[Run]) -> list[dict]:
    frame = runs_frame(runs)
    return json.loads(frame.drop(columns=[name for name in TIMES if name in frame]).to_json(orient="records"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["journal:runs/s/study.journal", "{database}"])
def test_four_workers_make_the_table_of_one(
    place: str, nursery: Callable, study_file: Callable, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Real runs: the same numbers to the last bit, and files of the same bytes."""
    from rich.progress import Progress

    path = study_file("axes: {loss: [mse, listwise], seed: [0, 1, 2]}")
    storage = place.format(database=request.getfixturevalue("database")) if "{" in place else place
    launched = queue_grid(path, storage=storage)
    pool = nursery(real=True)
    pool.wait([pool.start("s", storage) for _ in range(4)])
    assert pool.complaints() == ""
    together = launched.study.runs(launched.names)
    alone = train_cells(read_grid(path, [f"output={tmp_path / 'alone'}"]), progress=Progress(disable=True))
    assert len(together) == len(alone) == 6
    assert numbers(together) == numbers(alone)
    for one, other in zip(alone, together, strict=True):
        assert one.folder.name == other.folder.name
        for name in ("per_gene.csv", "result.json", "history.jsonl"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    assert len(launched.study.optuna.trials) == 6


def test_a_grid_alone_status_and_a_failed_cell(agl: Callable, study_file: Callable, tmp_path: Path) -> None:
    path = study_file("axes: {model: [mlp, ridge], training.learning_rate: [1e-3, 1e30]}")
    status, out, err = agl("grid", path, "training.epochs=1", "--json")
    assert status == 1  # a learning rate of 1e30 cannot end well
    assert len(json.loads(out)["runs"]) == 2
    assert "failed after 1 attempt: model=mlp training.learning_rate=1e+30: Expected a finite loss" in err
    status, out, _ = agl("study", "status", "s", "--json")
    assert (status, json.loads(out)["counts"]) == (0, {"done": 2, "failed": 1})
    status, out, _ = agl("study", "status", "s")
    assert "grid s: 2 done, 1 failed" in out
    assert agl("study", "repair", "s")[1].strip() == "Nothing to repair."
    assert agl("study", "repair", "s", "--failed")[1].strip() == "1 cell put back into the queue of study 's'"
    status, out, err = agl("grid", path, "training.epochs=1", "axes.training.learning_rate=[1e-3]", "--json")
    assert (status, len(json.loads(out)["runs"])) == (0, 2), err


def test_a_search_alone(agl: Callable, study_file: Callable) -> None:
    path = study_file(SEARCH)
    status, out, err = agl("search", path, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["counts"] == {"done": 3}
    best = max(found["cells"], key=lambda cell: cell["values"][0])
    assert found["best"] == [best["cell"]]
    for cell in found["cells"]:
        run = open_study("journal:runs/s/study.journal").runs([cell["cell"]])[0]
        assert run.result["validation"] == pytest.approx(cell["values"][0])
        assert run.config.auxiliary.genes.args["k"] == cell["params"]["auxiliary.genes.k"]
    status, out, _ = agl("search", path)
    assert status == 0
    assert "search s: 3 done" in out
    assert "auxiliary.genes.k=" in out


def test_a_pruned_run_is_not_finished_and_can_be_taken_up(agl: Callable, study_file: Callable) -> None:
    from optuna.exceptions import TrialPruned

    from agl.studies.cell import train_cell

    config = queue_grid(study_file(GRID)).study.cells()[0].trial.user_attrs["config"]
    from agl.config import validate

    told: list[tuple[int, float]] = []

    def report(step: int, score: float) -> None:
        told.append((step, score))
        if len(told) == 2:
            raise TrialPruned

    cell = validate(config | {"output": "pruned"}).with_("training.checkpoint_every=1")
    with pytest.raises(TrialPruned):
        train_cell(cell, report=report)
    assert [step for step, _ in told] == [1, 2]
    assert not list(Path("pruned").rglob("result.json"))
    (run,) = train_cell(cell)
    (whole,) = train_cell(cell.with_("output=whole"))
    assert run.result == whole.result
    history = [json.loads(line)["scc"] for line in (run.folder / "history.jsonl").read_text().splitlines()]
    assert told == [(1, pytest.approx(history[0])), (2, pytest.approx(max(history[:2])))]
    with pytest.raises(Exception, match=r"Expected folds from 0 to 0, received \[5\]"):
        train_cell(cell, folds=[5])


def test_only_the_training_that_gives_the_result_is_watched(study_file: Callable) -> None:
    from agl.config import load
    from agl.studies.cell import train_cell

    path = study_file("auxiliary: {genes: dkgsb, min_detection: 0, outer: {batches: 1, batch_size: 32}}")
    told: list[tuple[int, float]] = []
    (run,) = train_cell(load([path]), report=lambda *words: told.append(words))
    assert [step for step, _ in told] == [1, 2, 3]
    assert told[-1][1] == pytest.approx(run.result["validation"])


def test_sentences(agl: Callable, study_file: Callable, tmp_path: Path) -> None:
    path = study_file(GRID)
    for words, sentence in [
        (["grid", path, "--jobs", "0"], "Expected --jobs from 1 to 256, received 0"),
        (
            ["grid", path, "--jobs", "2", "--storage", "sqlite:///a.db"],
            "Expected a storage for 2 workers, received SQLite: it has no row",
        ),
        (["grid", path, "--storage", "redis://h"], "Expected a storage like journal:"),
        (["grid", tmp_path / "none.yaml"], "there is no such file"),
        (["search", path], "Expected `search:` with `parameters:`"),
        (["worker", "--study", "t"], "Expected the name of a study in runs/, received 't'. There is none"),
        (["worker", "--study", "t", "--storage", "journal:a"], "found no such file"),
        (["study", "status"], "Expected the name of a study, or --storage"),
        (["study", "proxy", "--storage", "journal:a"], "Expected PostgreSQL behind a proxy"),
        (["study", "proxy"], "Expected --storage postgresql://"),
    ]:
        status, _, err = agl(*words)
        assert status == 2, words
        assert sentence in err
    assert not (tmp_path / "runs").exists()
    queue_grid(path)
    assert "Did you mean 's'?" in agl("study", "status", "ss")[2]


def test_sqlite_without_workers_beside_it_is_fine(agl: Callable, study_file: Callable, tmp_path: Path) -> None:
    path = study_file("axes: {model: [mean]}")
    status, out, err = agl("grid", path, "--storage", f"sqlite:///{tmp_path}/a.db", "--json")
    assert (status, len(json.loads(out)["runs"])) == (0, 1), err
    status, _, err = agl("worker", "--study", "s", "--storage", f"sqlite:///{tmp_path}/a.db")
    assert (status, "received SQLite: it has no row locks" in err) == (2, True)


def test_cores_and_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [worker_environment(i, 3)["OMP_NUM_THREADS"] for i in range(3)] == ["2"] * 3
    assert [worker_environment(i, 3)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["3", "5", "3"]
    assert worker_environment(0, 16)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, 3)


def test_the_pool_gives_up_with_the_workers_own_words(grid_file: Callable, tmp_path: Path) -> None:
    study = queue_grid(grid_file(1), identify=lambda c, _: c.loss.name).study
    complain = "import sys; print('agl: The disk is full.', file=sys.stderr); sys.exit(2)"
    with pytest.raises(Exception, match=r"^The disk is full\.$"):
        WorkerPool(study, 2, command=[sys.executable, "-c", complain], poll=0.02).run(lambda cells: None)
    die = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(Exception, match="study 'g', but they keep dying: -9"):
        WorkerPool(study, 2, command=[sys.executable, "-c", die], poll=0.02).run(lambda cells: None)
    assert [cell.state for cell in study.cells()] == ["waiting"] * 2


def _hears_ctrl_c() -> None:
    """A shell's background jobs are started deaf to it, and so are their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_a_worker_killed_in_a_real_run_and_a_stopped_pool(agl: Callable, study_file: Callable, tmp_path: Path) -> None:
    """kill -9 of one of two workers, then Ctrl-C of the whole: the same command finishes, with the serial numbers."""
    path = study_file("axes: {loss: [mse, listwise, pearson, poisson]}")
    words = ["grid", str(path), "training.epochs=50", "training.patience=50", "training.checkpoint_every=1"]
    command = [sys.executable, "-m", "agl", *words, "--jobs", "2"]
    pool = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=_hears_ctrl_c
    )
    deadline = time.monotonic() + 100

    def go_on() -> None:
        assert pool.poll() is None, pool.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)

    workers = tmp_path / "runs/s/study.journal.workers"

    def busy() -> list[int]:
        found = [json.loads(file.read_bytes() or b"{}") for file in workers.glob("*-*-*")] if workers.exists() else []
        return [record["pid"] for record in found if record]

    while not (busy() and list(tmp_path.rglob("history.jsonl"))):
        go_on()
    os.kill(busy()[0], signal.SIGKILL)
    while not list(tmp_path.rglob("result.json")):
        go_on()
    pool.send_signal(signal.SIGINT)
    assert pool.wait(60) == 130
    status, out, err = agl(*words, "--json")
    assert status == 0, err
    cells = open_study(f"journal:{tmp_path}/runs/s/study.journal").cells()
    assert [cell.state for cell in cells] == ["done"] * 4
    assert sum(cell.deaths for cell in cells) == 1
    assert not busy()
    status, alone, err = agl(*words, "output=alone", "--json")
    assert status == 0, err
    assert json.loads(out)["methods"] == json.loads(alone)["methods"]
    assert numbers(find_runs(tmp_path / "runs")) == numbers(find_runs(tmp_path / "alone"))


def test_submitting_to_a_cluster_that_is_this_machine(agl: Callable, study_file: Callable) -> None:
    pytest.importorskip("submitit", reason="the slurm extra is not installed")
    path = study_file("axes: {model: [mean, ridge]}")
    if shutil.which("srun") is None:
        status, _, err = agl("submit", path)
        assert (status, "Expected SLURM here, found none" in err) == (2, True)
    status, out, err = agl("submit", path, "--workers", "1", "--local", "--minutes", "2")
    assert status == 0, err
    assert "1 workers submitted for study 's'" in out
    deadline = time.monotonic() + 60
    study = open_study("journal:runs/s/study.journal")
    while any(cell.state != "done" for cell in study.cells()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [cell.state for cell in study.cells()] == ["done", "done"]


def test_submit_without_submitit(agl: Callable, study_file: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    status, _, err = agl("submit", study_file(GRID))
    assert status == 2
    assert "pip install 'agl[slurm]'" in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs to be root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_and_a_read_only_one(agl: Callable, study_file: Callable, small_disk: Path) -> None:
    path = study_file("axes: {loss: [mse, listwise, pearson, pairwise, poisson, negative_binomial]}")
    status, _, err = agl("grid", path, f"output={small_disk}")
    assert status == 2
    assert "the disk is full" in err
    assert "the same command" in err
    done = len(list(small_disk.rglob("result.json")))
    assert 0 < done < 6
    status, _, err = agl("grid", path, f"output={small_disk}")
    assert (status, "the disk is full" in err) == (2, True)
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    status, out, err = agl("grid", path, f"output={small_disk}", "--json")
    assert (status, len(json.loads(out)["runs"])) == (0, 6), err
    assert not list(small_disk.rglob("*.part*"))
    status, alone, _ = agl("grid", path, "--json")
    assert json.loads(out)["methods"] == json.loads(alone)["methods"]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    status, _, err = agl("grid", path, f"output={small_disk}", "axes.seed=[1]")
    assert (status, "the file system is read-only" in err) == (2, True)
