"""A run is trained once, never reads the test counts before scoring, and survives being killed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from agl.config import load
from agl.errors import UserError
from agl.runs.execute import execute
from agl.runs.folder import Run, RunIsBusy, find_runs, folder_of, locked, open_run
from agl.runs.train import prepare, train
from agl.training.experiment import Experiment
from tests.forked import agl as agl_command
from tests.forked import finish, kill_group, start

QUICK = [
    "training.epochs=4",
    "primary.k=10",
    "primary.min_detection=0",
    "data.features=latent",
    "training.checkpoint_every=1",
]
QUICK += ["model=mlp", "model.hidden=[16]", "training.batch_size=32"]


def config_of(sections: Path, tmp_path: Path, *words: str):
    return load([f"data.root={sections}", f"output={tmp_path / 'runs'}", *QUICK, *words])


def weights(run: Run) -> bytes:
    return (run.folder / "checkpoints" / "best.safetensors").read_bytes()


def with_other_test_counts(experiment: Experiment) -> Experiment:
    """The same experiment, every test spot's counts and library size replaced by rubbish."""
    dataset, test = experiment.dataset, experiment.split.test
    counts = dataset.counts.tolil(copy=True)
    counts[test] = np.random.default_rng(0).integers(0, 1000, (len(test), counts.shape[1]))
    library = np.array(dataset.library_size)
    library[test] = np.asarray(counts[test].sum(1)).ravel() + 7
    changed = replace(dataset, counts=sparse.csr_matrix(counts), library_size=library, key=dataset.key + "-corrupted")
    return Experiment(experiment.config, changed, experiment.split)


@pytest.mark.parametrize(
    "words",
    [
        ["loss=listwise"],
        ["loss=pairwise"],
        ["loss=negative_binomial"],
        ["auxiliary.genes=coexpressed"],
        ["auxiliary.genes=low_variance_coexpressed", "auxiliary.genes.k=20"],
        ["auxiliary.genes=dkgsb", "training.epochs=3"],
        ["auxiliary.genes=prior_mixture", "training.epochs=3"],
        ["auxiliary.genes=influence_gates", "training.epochs=3"],
        ["primary=moran", "auxiliary.genes=all"],
    ],
    ids=" ".join,
)
def test_nothing_learns_from_the_test_spots(sections: Path, tmp_path: Path, words: list[str]) -> None:
    experiment = prepare(config_of(sections, tmp_path, "fold=1", *words)).experiments[0]
    clean = execute(experiment)
    corrupted = execute(with_other_test_counts(experiment))
    assert clean.folder != corrupted.folder
    assert weights(clean) == weights(corrupted)
    for name in ("panel.csv", "history.jsonl"):
        assert (clean.folder / name).read_bytes() == (corrupted.folder / name).read_bytes()
    assert (clean.folder / "per_gene.csv").read_bytes() != (corrupted.folder / "per_gene.csv").read_bytes()


LOW_RANK = ["model=low_rank", "model.ranks=[2,4]", "model.penalties=[3,1]"]


@pytest.mark.parametrize(
    "words",
    [
        ["model=ridge"],
        ["model=mean"],
        ["model=convex"],
        [*LOW_RANK, "auxiliary.genes=coexpressed"],
        [*LOW_RANK, "auxiliary.genes=dkgsb"],
        [*LOW_RANK, "auxiliary.genes=influence_gates"],
        ["model=committee", "data.context=[8]", "data.normalise=slide", "auxiliary.genes=prior_mixture"],
    ],
    ids=lambda words: " ".join(word for word in words if word not in LOW_RANK[1:]),
)
def test_estimators_do_not_learn_from_the_test_spots_either(sections: Path, tmp_path: Path, words: list[str]) -> None:
    experiment = prepare(config_of(sections, tmp_path, "fold=1", *words)).experiments[0]
    clean, corrupted = (execute(each) for each in (experiment, with_other_test_counts(experiment)))
    assert clean.folder != corrupted.folder
    scores, others = (np.load(run.folder / "predictions.npz")["scores"] for run in (clean, corrupted))
    assert np.array_equal(scores, others)
    for name in ("panel.csv", "history.jsonl"):
        assert (clean.folder / name).read_bytes() == (corrupted.folder / name).read_bytes()
    assert (clean.folder / "per_gene.csv").read_bytes() != (corrupted.folder / "per_gene.csv").read_bytes()


def test_the_scores_are_scipys(sections: Path, tmp_path: Path) -> None:
    run = train(config_of(sections, tmp_path, "fold=0"))[0]
    saved = np.load(run.folder / "predictions.npz")
    table = pd.read_csv(run.folder / "per_gene.csv")
    expected = np.log1p(1e4 * saved["counts"] / saved["library_size"][:, None])
    for j, gene in enumerate(saved["genes"]):
        row = table[(table.gene == gene) & (table.slide == saved["slide"][0])].iloc[0]
        if expected[:, j].std() > 0:
            assert row.scc == pytest.approx(stats.spearmanr(saved["scores"][:, j], expected[:, j]).statistic, abs=1e-6)
            assert row.pcc == pytest.approx(stats.pearsonr(saved["scores"][:, j], expected[:, j]).statistic, abs=1e-5)
    per_slide = table[table.slide != "(pooled)"]
    assert run.result["scc"] == pytest.approx(per_slide.groupby("slide").scc.mean().mean())
    assert run.result["undefined"] == per_slide.scc.isna().sum()


def test_a_finished_run_is_not_touched_again(sections: Path, tmp_path: Path) -> None:
    config = config_of(sections, tmp_path, "fold=0")
    run = train(config)[0]
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*") if file.is_file()}
    again = train(config)[0]
    assert again.folder == run.folder
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*") if file.is_file()} == before


def test_the_folder_depends_on_what_matters_only(sections: Path, tmp_path: Path) -> None:
    def folder(*words: str) -> str:
        experiment = prepare(config_of(sections, tmp_path, "fold=0", *words)).experiments[0]
        return folder_of(experiment.config, experiment.dataset).name

    assert folder() == folder("loss=listwise", "loss.count_power=1.0", "name=other", "auxiliary.strength=1")
    others = {
        folder("seed=1"),
        folder("loss.count_power=0.5"),
        folder("training.epochs=5"),
        folder("data.permute=true"),
    }
    assert len(others | {folder()}) == 5


def test_the_same_run_twice_gives_the_same_bytes(sections: Path, tmp_path: Path) -> None:
    runs = [train(config_of(sections, tmp_path, "fold=0", f"output={tmp_path / place}"))[0] for place in ("a", "b")]
    assert weights(runs[0]) == weights(runs[1])
    for name in ("per_gene.csv", "history.jsonl", "panel.csv", "result.json"):
        assert (runs[0].folder / name).read_bytes() == (runs[1].folder / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["auxiliary.genes=dkgsb"]], ids=["none", "dkgsb"])
def test_killed_and_resumed_equals_uninterrupted(sections: Path, tmp_path: Path, words: list[str]) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = ["train", f"data.root={sections}", *QUICK, "training.epochs=15", "fold=0", *words]
    for folder in (whole, broken):
        folder.mkdir()
    assert finish(whole, agl_command, command) == (0, (whole / "said.txt").read_text())
    process = start(broken, agl_command, command)
    while not list(broken.rglob("history.pt")) and process.is_alive():
        time.sleep(0.005)
    kill_group(process)
    assert not list(broken.rglob("result.json"))
    status, said = finish(broken, agl_command, command)
    assert status == 0, said
    first, second = find_runs(whole)[0], find_runs(broken)[0]
    assert weights(first) == weights(second)
    for name in ("per_gene.csv", "history.jsonl", "result.json", "panel.csv"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def hold(folder: Path) -> None:
    """In a process of its own."""
    with locked(folder):
        (folder / "held").touch()
        time.sleep(60)


def test_two_processes_do_not_train_one_run(sections: Path, tmp_path: Path) -> None:
    experiment = prepare(config_of(sections, tmp_path, "fold=0")).experiments[0]
    folder = folder_of(experiment.config, experiment.dataset)
    folder.mkdir(parents=True)
    holder = start(tmp_path, hold, folder)
    while not (folder / "held").exists() and holder.is_alive():
        time.sleep(0.005)
    with pytest.raises(RunIsBusy, match=f"being trained by process {holder.pid}. Wait for it, or stop it first."):
        execute(experiment)
    kill_group(holder)
    assert execute(experiment).finished
    with locked(folder):
        pass


def test_permuted_counts_leave_no_signal(sections: Path, tmp_path: Path) -> None:
    runs = train(config_of(sections, tmp_path, "data.permute=true", "training.epochs=20"))
    assert abs(np.mean([run.result["scc"] for run in runs])) < 0.08


def test_permuting_keeps_whole_spots_inside_their_slides(sections: Path, tmp_path: Path) -> None:
    plain = prepare(config_of(sections, tmp_path, "fold=0")).experiments[0].dataset
    mixed = prepare(config_of(sections, tmp_path, "fold=0", "data.permute=true")).experiments[0].dataset
    assert (plain.counts != mixed.counts).nnz > 0
    for slide in range(len(plain.slide_names)):
        here = np.flatnonzero(plain.slide_codes == slide)
        assert sorted(map(tuple, plain.counts[here].toarray())) == sorted(map(tuple, mixed.counts[here].toarray()))
        assert sorted(plain.library_size[here]) == sorted(mixed.library_size[here])
    assert np.array_equal(plain.features, mixed.features)


def test_what_a_run_folder_holds(sections: Path, tmp_path: Path) -> None:
    run = train(config_of(sections, tmp_path, "fold=2", "auxiliary.genes=top", "auxiliary.genes.k=15"))[0]
    names = {
        str(file.relative_to(run.folder)) for file in run.folder.rglob("*") if file.is_file() and "tb/" not in str(file)
    }
    expected = {
        "config.yaml",
        "provenance.json",
        "panel.csv",
        "history.jsonl",
        "predictions.npz",
        "per_gene.csv",
        "result.json",
        "recipe.json",
    }
    assert names == expected | {".lock", "checkpoints/history.pt", "checkpoints/best.safetensors"}
    assert load([run.folder / "config.yaml"]) == run.config
    panel = pd.read_csv(run.folder / "panel.csv")
    assert panel.role.value_counts().to_dict() == {"auxiliary": 15, "primary": 10}
    provenance = json.loads((run.folder / "provenance.json").read_text())
    assert provenance["split"]["spots"]["test"] == 40
    assert provenance["packages"]["torch"]
    assert len(provenance["data"]["spots"]) == 64
    assert len((run.folder / "history.jsonl").read_text().splitlines()) == run.result["epochs"] == 4


def test_evaluate_finds_what_was_recorded_and_predict_writes_a_layer(agl, sections: Path, tmp_path: Path) -> None:
    runs = train(config_of(sections, tmp_path, "fold=0")) + train(
        config_of(sections, tmp_path, "fold=0", "model=ridge")
    )
    for run in runs:
        status, out, err = agl("evaluate", run.folder, "--json")
        assert (status, json.loads(out)["as_recorded"]) == (0, True), err
        saved = np.load(run.folder / "predictions.npz")
        section = str(saved["slide"][0])
        status, out, err = agl("predict", run.folder, section)
        assert status == 0, err
        written = anndata.read_h5ad(run.folder / f"{section}.h5ad")
        source = anndata.read_h5ad(sections / "adata" / f"{section}.h5ad")
        assert list(written.var_names) == list(saved["genes"])
        assert np.array_equal(written.X.toarray(), source[written.obs_names, written.var_names].X.toarray())
        order = [list(written.obs_names).index(barcode) for barcode in saved["barcode"]]
        assert np.allclose(written.layers["agl_score"][order], saved["scores"], atol=1e-5)
        assert written.uns["agl"]["role_in_training"] == "test"
        status, _, err = agl("predict", run.folder, section, "--root", sections, "--out", tmp_path / "x.h5ad")
        assert status == 0, err
        assert np.allclose(
            anndata.read_h5ad(tmp_path / "x.h5ad").layers["agl_score"], written.layers["agl_score"], atol=1e-5
        )


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"found one without a result\. Start it again with .*it resumes\.$"):
        open_run(tmp_path)


def test_a_read_only_folder_is_one_sentence(
    agl, sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from agl.runs import execute as runs

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_text", full)
    status, _, err = agl("train", f"data.root={sections}", *QUICK, "fold=0")
    assert status == 2
    assert "the disk is full" in err
    assert "the same command resumes" in err
    monkeypatch.undo()
