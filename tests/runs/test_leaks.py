"""From the files on: whatever stands in the test spots, every spot is in the same part, and the same model is learnt.

Counts of test spots are replaced by rubbish, of every third by none at all, so that it is left out; where whole slides
test, their features are rubbish too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from agl import registry
from agl.config import Config, load
from agl.papers.hest.folders import read_task
from agl.papers.hest.protocols import jobs
from agl.runs.execute import execute
from agl.runs.train import prepare
from agl.training.experiment import Experiment

SHARED = ["data.features=latent", "primary.k=10", "primary.min_detection=0"]
MLP = ["model=mlp", "model.hidden=[8]", "training.epochs=2", "training.batch_size=32"]
LOW_RANK = ["model=low_rank", "model.ranks=[2,4]", "model.penalties=[3,1]"]
PARTS = ("train", "validation", "test")
SPLITS = {
    "leave_one_patient_out": [],
    "leave_one_slide_out": [],
    "k_fold": ["split.k=2"],
    "spatial_blocks": ["split.k=3", "split.buffer=1"],
    "random_spots": ["split.k=3"],
    "named_slides": ["split.test=[P1S1, P1S2]", "split.validation=[P2S1]"],
    "hest_csv": [],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with two sections each. Read-only by convention."""
    from agl.data.simulate.task import simulate

    root = tmp_path_factory.mktemp("leaks") / "task"
    return simulate(
        root, n_patients=3, slides_per_patient=2, spots_per_slide=36, n_genes=120, features="latent", seed=2
    )


def spots_of(experiment: Experiment, part: str) -> set[tuple[str, str]]:
    table = experiment.dataset.spots.iloc[getattr(experiment.split, part)]
    return set(zip(table.slide, table.barcode, strict=True))


def corrupted(folder: Path, spots: pd.DataFrame, target: Path, *, features: bool = False) -> set[tuple[str, str]]:
    """A copy of the folder with rubbish in these spots; returns those that have no count left."""
    shutil.copytree(folder, target)
    empty: set[tuple[str, str]] = set()
    rng = np.random.default_rng(8)
    for slide, own in spots.groupby("slide"):
        path = target / "adata" / f"{slide}.h5ad"
        section = anndata.read_h5ad(path)
        rows = np.sort(section.obs_names.get_indexer(own["barcode"]))
        counts = section.X.toarray()
        counts[rows] = rng.poisson(rng.gamma(1.0, 20.0, (len(rows), section.n_vars)))
        counts[rows[::3]] = 0
        empty |= {(str(slide), name) for name in section.obs_names[rows[::3]]}
        section.X = sparse.csr_matrix(counts)
        section.write_h5ad(path)
        if features:
            with h5py.File(target / "embeddings/latent" / f"{slide}.h5", "a") as h5:
                h5["embeddings"][...] = rng.normal(size=h5["embeddings"].shape)
    return empty


def test_every_rule_is_here() -> None:
    assert set(SPLITS) == set(registry.names("split"))


@pytest.mark.parametrize("unit", ["blocks", "random", "slide"])
@pytest.mark.parametrize("rule", SPLITS)
def test_no_count_decides_who_is_in_which_part(folder: Path, tmp_path: Path, rule: str, unit: str) -> None:
    words = [*SHARED, "model=ridge", f"split={rule}", *SPLITS[rule], f"validation.unit={unit}"]
    clean = prepare(load([f"data.root={folder}", *words])).experiments
    dataset = clean[0].dataset
    empty = corrupted(folder, dataset.spots.iloc[clean[0].split.test], tmp_path / "task")
    others = prepare(load([f"data.root={tmp_path / 'task'}", *words])).experiments
    assert len(others[0].dataset) == len(dataset) - len(empty)
    assert [e.split.name for e in others] == [e.split.name for e in clean]
    for before, after in zip(clean, others, strict=True):
        for part in PARTS:
            assert spots_of(after, part) == spots_of(before, part) - empty, (before.split.name, part)
        assert after.split.optimistic == before.split.optimistic


def set_ups() -> Iterator[tuple[str, list[str], bool]]:
    """(name, words, whether whole slides test)."""
    for rule in ("spatial_blocks", "random_spots"):
        split = [f"split={rule}", *SPLITS[rule]]
        yield f"{rule}, mlp", [*split, *MLP], False
        yield f"{rule}, ridge", [*split, "model=ridge"], False
        yield f"{rule}, committee", [*split, "model=committee", "data.context=[8]"], False
        yield f"{rule}, co-expressed genes", [*split, *MLP, "auxiliary.genes=coexpressed"], False
    yield "penalty chosen inside", ["model=convex", "model.penalties=[1,0.1]"], True
    yield "committee", ["model=committee"], True
    yield "genes chosen in closed form", [*LOW_RANK, "auxiliary.genes=dkgsb"], True
    yield "genes chosen by look-aheads", [*MLP, "auxiliary.genes=dkgsb"], True
    yield "per slide", ["model=committee", "data.normalise=slide", "data.context=[8]"], True


def learnt(config: Config) -> tuple[Experiment, dict[str, bytes]]:
    """The first fold's run, and all that it learnt."""
    experiment = prepare(config).experiments[0]
    run = execute(experiment)
    names = ("checkpoints/best.safetensors", "panel.csv", "history.jsonl")
    return experiment, {name: (run.folder / name).read_bytes() for name in names}


@pytest.mark.parametrize(("words", "whole"), [pytest.param(w, s, id=name) for name, w, s in set_ups()])
def test_the_same_is_learnt(folder: Path, tmp_path: Path, words: list[str], whole: bool) -> None:
    words = [*SHARED, f"output={tmp_path / 'runs'}", "fold=0", *words]
    experiment, clean = learnt(load([f"data.root={folder}", *words]))
    test = experiment.dataset.spots.iloc[experiment.split.test]
    assert corrupted(folder, test, tmp_path / "task", features=whole)
    other, found = learnt(load([f"data.root={tmp_path / 'task'}", *words]))
    assert other.dataset.key != experiment.dataset.key
    assert found == clean


@pytest.mark.parametrize("method", ["ridge", "mlp, listwise"])
def test_the_sound_protocol_learns_the_same(folder: Path, tmp_path: Path, method: str) -> None:
    words = [*(word for word in SHARED if "features" not in word), "fold=0"]
    words += [w for w in MLP if method != "ridge" and not w.startswith("model=")]

    def config(root: Path) -> Config:
        asked = jobs("sound", read_task(root, root.parent), "latent", "latent", tmp_path / "runs", words)
        return next(job.config for job in asked if job.method == method)

    experiment, clean = learnt(config(folder))
    test = experiment.dataset.spots.iloc[experiment.split.test]
    corrupted(folder, test, tmp_path / "task", features=True)
    _, found = learnt(config(tmp_path / "task"))
    assert found == clean


def test_a_test_slide_that_loses_all_spots_is_refused(agl, folder: Path, tmp_path: Path) -> None:
    """Nothing is learnt without it: the units are the slides of the folder, not those that still have counts."""
    shutil.copytree(folder, tmp_path / "task")
    section = anndata.read_h5ad(tmp_path / "task/adata/P2S1.h5ad")
    section.X = sparse.csr_matrix(section.shape, dtype=np.float32)
    section.write_h5ad(tmp_path / "task/adata/P2S1.h5ad")
    status, _, err = agl("train", f"data.root={tmp_path / 'task'}", *SHARED, "model=ridge", "split=k_fold", "split.k=2")
    assert status == 2
    assert "Expected spots with at least 1 counts in slide 'P2S1', found none" in err
