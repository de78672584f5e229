"""`agl hest` on a made folder, beside the benchmark's steps written out with scikit-learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agl.errors import UserError
from agl.papers.hest.benchmark import averages
from agl.papers.hest.folders import find_tasks
from agl.papers.hest.protocols import jobs, largest_variance
from agl.papers.hest.published import LEADERBOARD, STRANK, leaderboard, strank_table

FAST = ["training.epochs=2", "training.learning_rate=0.01"]


def witness(base: Path, task: str, encoder: str, *, in_order: bool = True) -> tuple[float, float]:
    """The released benchmark's path from files to its two numbers; or with slides and spots sorted by name."""
    folder = base / "bench" / task
    genes = json.loads((folder / "var_50genes.json").read_text())["genes"]

    def read(slides: list[str]) -> tuple[np.ndarray, np.ndarray]:
        xs, ys = [], []
        for slide in slides if in_order else sorted(slides):
            with h5py.File(base / "embeddings" / task / encoder / f"{slide}.h5") as file:
                found, barcodes = file["embeddings"][:], [b.decode() for b in file["barcodes"][:].ravel()]
            order = np.arange(len(found)) if in_order else np.argsort(barcodes)
            xs.append(found[order])
            barcodes = [barcodes[i] for i in order]
            table = anndata.read_h5ad(folder / "adata" / f"{slide}.h5ad")
            ys.append(np.log1p(table[barcodes][:, genes].to_df().to_numpy(np.float64)))
        return np.concatenate(xs), np.concatenate(ys)

    scores = []
    for fold in range(len(list((folder / "splits").iterdir())) // 2):
        train, test = (
            read(pd.read_csv(folder / "splits" / f"{part}_{fold}.csv").sample_id.tolist()) for part in ("train", "test")
        )
        pipe = make_pipeline(StandardScaler(), PCA(256, random_state=1))
        z_train = torch.Tensor(pipe.fit_transform(train[0])).numpy().astype(np.float64)
        z_test = torch.Tensor(pipe.transform(test[0])).numpy().astype(np.float64)
        alpha = 100 / (256 * 50)
        ridge = Ridge(alpha=alpha, solver="lsqr", fit_intercept=False, max_iter=1000, random_state=1)
        predicted = ridge.fit(z_train, train[1]).predict(z_test)
        scores.append(np.mean([pearsonr(test[1][:, g], predicted[:, g])[0] for g in range(50)]))
    return float(np.mean(scores)), float(np.std(scores))


@pytest.fixture
def run(agl, made, tmp_path):
    def call(*words: object) -> pd.DataFrame:
        code, out, err = agl(
            "hest", made / "bench", "--embeddings", made / "embeddings", "--output", tmp_path / "runs", "--json", *words
        )
        assert code == 0, err
        return pd.DataFrame(json.loads(out))

    return call


def test_the_benchmarks_protocol_number_for_number(run, made):
    """All tasks, all encoders; a spot without counts, float16 features, shuffled barcodes, spots without a patch."""
    frame = run()
    assert frame[["task", "encoder"]].values.tolist() == [
        [task, encoder] for task in ("IDC", "READ") for encoder in ("conch_v1", "uni_v1")
    ]
    for _, row in frame.iterrows():
        mean, sd = witness(made, row.task, row.encoder)
        assert row.pcc_log1p_pooled == pytest.approx(mean, abs=1e-8)
        assert row.pcc_log1p_pooled_sd == pytest.approx(sd, abs=1e-8)
        assert row.pcc_log1p_pooled > 0.1
        assert row.published == leaderboard(row.encoder, row.task)
        assert row.folds == (3 if row.task == "IDC" else 2)


@pytest.mark.parametrize("listed", ["as written", "reversed", "interleaved"])
def test_fewer_spots_than_features_in_the_benchmarks_order(agl, write_task, tmp_path, listed):
    """There the PCA is a randomised one, and another order of spots or slides is another number."""
    patients = {"NCBI785": "a", "TENX95": "b", "NCBI783": "c", "A1": "c"}
    write_task(tmp_path, "IDC", patients, seed=3, width=640)
    files = sorted((tmp_path / "bench" / "IDC" / "splits").glob("*.csv"))
    for file in files if listed != "as written" else []:
        table = pd.read_csv(file)
        table = table.iloc[::-1] if listed == "reversed" else pd.concat([table.iloc[1::2], table.iloc[::2]])
        table.to_csv(file, index=False)
    code, out, err = agl("hest", tmp_path / "bench", "--embeddings", tmp_path / "embeddings", "--encoder", "conch_v1",
                         "--output", tmp_path / "runs", "--json")  # fmt: skip
    assert code == 0, err
    [row] = json.loads(out)
    mean, sd = witness(tmp_path, "IDC", "conch_v1")
    assert row["pcc_log1p_pooled"] == pytest.approx(mean, abs=1e-8)
    assert row["pcc_log1p_pooled_sd"] == pytest.approx(sd, abs=1e-8)
    if listed == "reversed":  # what the order is worth: the same files, slides and spots sorted
        other, _ = witness(tmp_path, "IDC", "conch_v1", in_order=False)
        assert abs(other - mean) > 1e-5


def test_the_published_table_is_complete_and_averages_to_the_published_average():
    """Averages as printed by the leaderboard and by STRank's table."""
    for encoder, average in {"ResNet50": 0.326, "UNI": 0.3862, "H-optimus-0": 0.4146, "CONCH": 0.3709}.items():
        assert np.mean(list(LEADERBOARD[encoder].values())) == pytest.approx(average, abs=2e-4)
    published = {"mse": 0.306, "poisson": 0.293, "negative_binomial": 0.244, "margin_ranking_released": 0.228,
                 "pairwise": 0.343, "pearson_pooled": 0.326, "listwise": 0.345}  # fmt: skip
    assert {loss: np.mean(list(row.values())) for loss, row in STRANK.items()} == pytest.approx(published, abs=1e-3)
    assert leaderboard("H_OPTIMUS_0", "ccrcc") == 0.2654
    assert np.isnan(leaderboard("mine", "IDC"))
    assert np.isnan(strank_table("listwise", "SKCM"))


def test_stranks_protocol_as_released_and_patient_safe(made, tmp_path):
    """READ validates and tests on two sections of one patient: released says optimistic, safe trains on neither."""
    [task], _ = find_tasks(made / "bench", ["READ"], made / "embeddings")
    features = str(task.encoders["conch_v1"])
    released = list(jobs("strank", task, "conch_v1", features, tmp_path, []))
    assert [job.method for job in released] == list(STRANK)
    split = released[0].config.split
    assert (split.args["test"], split.args["validation"]) == (["ZEN40"], ["ZEN36"])
    safe = next(jobs("strank-safe", task, "conch_v1", features, tmp_path, [])).config
    assert safe.split.args == {"test": ["ZEN40"], "train": ["ZEN48", "ZEN49"]}
    assert (safe.primary.name, safe.allow_leaks) == ("variance", ())
    [task], _ = find_tasks(made / "bench", ["IDC"], made / "embeddings")
    safe = next(jobs("strank-safe", task, "conch_v1", str(task.encoders["conch_v1"]), tmp_path, [])).config
    assert safe.split.args == {"test": ["NCBI783"], "validation": ["TENX95"], "train": ["NCBI785"]}


def test_the_released_panel_is_the_largest_variance_over_all_slides(made):
    [task], _ = find_tasks(made / "bench", ["IDC"], made / "embeddings")
    tables = []
    for slide in task.slides:
        with h5py.File(task.encoders["conch_v1"] / f"{slide}.h5") as file:
            barcodes = [b.decode() for b in file["barcodes"][:].ravel()]
        counts = anndata.read_h5ad(task.folder / "adata" / f"{slide}.h5ad")[barcodes].to_df()
        counts = counts[counts.sum(axis=1) > 0]
        tables.append(np.log1p(1e4 * counts.div(counts.sum(axis=1), axis=0)))
    expected = pd.concat(tables).var().sort_values(ascending=False).index[:10]
    assert set(largest_variance(task, str(task.encoders["conch_v1"]), k=10)) == set(expected)


def test_strank_and_sound_run_to_a_table(run, tmp_path):
    frame = run("--task", "READ", "--encoder", "conch_v1", "--protocol", "strank", "--protocol", "strank-safe",
                "--protocol", "sound", "--out", tmp_path / "table", *FAST)  # fmt: skip
    counted = frame.groupby("protocol", sort=False).size().to_dict()
    assert counted == {"strank": 7, "strank-safe": 7, "sound": 2}
    assert frame.scc.between(-1, 1).all()
    listwise = frame[frame.method == "listwise"].set_index("protocol").published
    assert listwise["strank"] == strank_table("listwise", "READ")
    assert np.isnan(listwise["strank-safe"])
    text = (tmp_path / "table.md").read_text()
    assert text.count("### Protocol") == 3
    assert "| READ | conch_v1 | listwise | 0.1400 |" in text
    assert len(pd.read_csv(tmp_path / "table.csv")) == 16


def test_means_over_tasks_compare_with_the_same_tasks():
    rows = [
        {"protocol": "hest", "encoder": "UNI", "method": "m", "published": p, "pcc_log1p_pooled": x, "scc": x, "pcc": x}
        for p, x in ((0.5, 0.1), (0.3, 0.3))
    ]
    [mean] = averages(pd.DataFrame(rows)).to_dict("records")
    assert (mean["published"], mean["pcc_log1p_pooled"], mean["tasks"]) == pytest.approx((0.4, 0.2, 2))
    rows[1]["published"] = float("nan")
    assert np.isnan(averages(pd.DataFrame(rows)).published[0])


def test_finished_runs_are_kept(run, monkeypatch):
    words = ["--task", "IDC", "--encoder", "uni_v1"]
    first = run(*words)
    monkeypatch.setattr("agl.papers.hest.ridge.HestRidge.fit", lambda *_, **__: pytest.fail("fitted again"))
    pd.testing.assert_frame_equal(first, run(*words))


def test_one_task_folder_and_embeddings_beside_it(agl, made, tmp_path):
    shutil.copytree(made / "bench" / "IDC", tmp_path / "IDC")
    shutil.copytree(made / "embeddings" / "IDC", tmp_path / "IDC" / "embeddings")
    code, out, err = agl("hest", tmp_path / "IDC", "--encoder", "uni_v1")
    assert code == 0, err
    assert "| IDC | uni_v1 | hest-pca256 | 0.5702 |" in out


def test_what_cannot_be_used_is_told_and_left_out(agl, made, tmp_path):
    root = Path(shutil.copytree(made / "bench", tmp_path / "bench"))
    (root / "READ" / "adata" / "ZEN36.h5ad").unlink()
    words = ["hest", root, "--embeddings", made / "embeddings", "--encoder", "uni_v1"]
    code, out, err = agl(*words)
    assert code == 0
    assert "Left out: READ: Expected adata/ZEN36.h5ad" in err
    assert "| IDC | uni_v1" in out
    assert "READ" not in out
    (root / "IDC" / "var_50genes.json").write_text("{}")
    code, _, err = agl(*words)
    assert code == 2
    assert "Expected a task that can be used" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "IDK"], "Did you mean 'IDC'"),
        (["--protocol", "best"], "Expected a protocol among"),
        (["--encoder", "univ1"], "Did you mean 'uni_v1'"),
        (["--encoder", "builtin"], "Expected embeddings of 'builtin'"),
        (["--embeddings", "nowhere"], "Give --embeddings FOLDER"),
        (["model"], "Expected key=value after the folder"),
        (["training.epoks=3"], "training.epoks"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(agl, made, words, said):
    given = [] if "--embeddings" in words else ["--embeddings", made / "embeddings"]
    code, _, err = agl("hest", made / "bench", *given, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_folder_without_tasks_says_how_to_get_one(agl, tmp_path):
    for folder, said in ((tmp_path, "agl download hest --task IDC"), (tmp_path / "no", "there is no such folder")):
        code, _, err = agl("hest", folder)
        assert code == 2
        assert said in err


def test_a_task_strank_says_nothing_about(made, tmp_path):
    shutil.copytree(made / "bench" / "IDC", tmp_path / "SKCM")
    [task], _ = find_tasks(tmp_path, ["SKCM"])
    for protocol in ("strank", "strank-safe"):
        with pytest.raises(UserError, match=r"names slides for .*, received SKCM"):
            list(jobs(protocol, task, "x", "builtin", tmp_path, []))
