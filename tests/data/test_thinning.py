"""Fewer patients and shallower counts: by hand, against the binomial distribution, and nested as promised."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from agl.analysis.tables import methods_frame, runs_frame
from agl.config import load
from agl.data.slides import Dataset
from agl.data.splitting.splits import Split
from agl.data.thinning import fewer_patients, thin, thinned
from agl.errors import UserError
from agl.runs.folder import find_runs
from agl.runs.train import prepare

COUNTS = sparse.csr_matrix(np.array([[4, 0, 2], [0, 0, 9], [1, 1, 0], [30, 0, 5]], dtype=np.int32))
LIBRARY = np.array([6, 20, 2, 40])  # spots 1 and 3 have counts of genes that are not in the table


def test_thinning_by_hand() -> None:
    """The draws in the order of the stored counts, then of the rest of each spot."""
    found, library = thinned(COUNTS, LIBRARY, 0.5, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    kept = [int(rng.binomial(n, 0.5)) for n in (4, 2, 9, 1, 1, 30, 5)]
    rest = [int(rng.binomial(n, 0.5)) for n in (0, 11, 0, 5)]
    wanted = [[kept[0], 0, kept[1]], [0, 0, kept[2]], [kept[3], kept[4], 0], [kept[5], 0, kept[6]]]
    assert found.toarray().tolist() == wanted
    assert library.tolist() == [sum(row) + more for row, more in zip(wanted, rest, strict=True)]
    assert found.dtype == np.int32
    assert found.has_sorted_indices
    assert (found.data > 0).all()


def test_a_thinned_poisson_count_is_poisson() -> None:
    rate = np.random.default_rng(0).poisson(6.0, (20_000, 1))
    found, library = thinned(sparse.csr_matrix(rate), rate.ravel(), 0.25, np.random.default_rng(1))
    values = found.toarray().ravel()
    assert (values.mean(), values.var()) == (pytest.approx(1.5, abs=0.03), pytest.approx(1.5, abs=0.06))
    assert np.mean(values == 0) == pytest.approx(stats.poisson.pmf(0, 1.5), abs=0.01)
    np.testing.assert_array_equal(library, values)


def dataset() -> Dataset:
    owners = ["P", "P", "Q", "R"]
    spots = pd.DataFrame({"slide": list("abcd"), "patient": owners, "barcode": list("1234"), "x": 0.0, "y": 0.0})
    return Dataset(spots, ("g", "h", "i"), COUNTS, LIBRARY, None, None, "k", {})


def test_both_sides_have_draws_of_their_own_that_no_split_changes() -> None:
    data = dataset()
    train = thin(data, np.array([0, 1]), 0.5, 1.0, seed=0)
    np.testing.assert_array_equal(train.counts[2:].toarray(), COUNTS[2:].toarray())
    assert train.library_size[2:].tolist() == [2, 40]
    both = thin(data, np.array([0, 1]), 0.5, 0.5, seed=0)
    np.testing.assert_array_equal(both.counts[:2].toarray(), train.counts[:2].toarray())
    other = thin(data, np.array([0, 3]), 0.5, 0.5, seed=0)
    np.testing.assert_array_equal(other.counts[0].toarray(), both.counts[0].toarray())  # seen in both
    np.testing.assert_array_equal(other.counts[2].toarray(), both.counts[2].toarray())  # tested in both
    assert (other.counts[3] != both.counts[3]).nnz > 0  # once trained on, once tested
    assert thin(data, np.array([0]), 1.0, 1.0, seed=0) is data
    assert (thin(data, np.array([0, 1, 3]), 0.5, 1.0, seed=1).counts != train.counts).nnz > 0


def test_subsets_of_patients_are_nested() -> None:
    spots = pd.DataFrame(
        {"slide": np.repeat([f"s{i}" for i in range(6)], 4), "patient": np.repeat([f"P{i}" for i in range(6)], 4)}
    )
    spots["barcode"], spots["x"], spots["y"] = np.arange(24).astype(str), np.tile(np.arange(4.0), 6), 0.0
    split = Split("f", np.arange(4, 20), np.arange(20, 24), np.arange(4), "leave_one_patient_out", False)
    sides = []
    for n in range(1, 6):
        found = fewer_patients(split, spots, n, 0, fraction=0.25, unit="auto")
        side = np.union1d(found.train, found.validation)
        assert (len(side), len(np.intersect1d(found.train, found.validation))) == (4 * n, 0)
        assert len(found.validation) > 0
        np.testing.assert_array_equal(found.test, split.test)
        sides.append(set(side.tolist()))
    assert all(few < more for few, more in pairwise(sides))
    assert sides[-1] == set(range(4, 24))
    firsts = {
        tuple(np.union1d(each.train, each.validation))
        for each in (fewer_patients(split, spots, 1, seed, fraction=0.25, unit="auto") for seed in range(12))
    }
    assert len(firsts) > 2  # another seed, another patient
    with pytest.raises(UserError, match=r"Expected data\.patients of at most 5"):
        fewer_patients(split, spots, 6, 0, fraction=0.25, unit="auto")


def test_keys_that_ask_for_nothing_leave_a_run_as_it_was() -> None:
    assert not {"patients", "thin", "thin_test"} & set(load(["data.thin=1"]).to_dict()["data"])
    assert load(["data.thin=0.5", "data.patients=2"]).to_dict()["data"]["thin"] == 0.5
    for wrong in ("data.thin=0", "data.thin=1.5", "data.patients=0"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            load([wrong])


def test_a_learning_curve_of_runs(agl, sections: Path) -> None:
    words = [f"data.root={sections}", "data.features=latent", "model=ridge", "fold=0", "primary.k=5"]
    for more in ([], ["data.patients=1"], ["data.thin=0.3"], ["data.thin_test=0.3"]):
        status, _, err = agl("train", *words, *more)
        assert status == 0, err
    runs = {
        (run.config.data.patients, run.config.data.thin, run.config.data.thin_test): run for run in find_runs("runs")
    }
    whole, one, shallow, noisy = (runs[key] for key in ((None, 1, 1), (1, 1, 1), (None, 0.3, 1), (None, 1, 0.3)))
    spots = [run.provenance["split"]["spots"] for run in (whole, one)]
    assert spots[1]["train"] + spots[1]["validation"] < spots[0]["train"] + spots[0]["validation"]
    assert spots[1]["test"] == spots[0]["test"]
    kept = [run.provenance["data"]["spots"] for run in (whole, one, shallow, noisy)]
    assert kept[0] == kept[1] == kept[2] != kept[3]  # a score against thinned counts answers another question
    named = runs_frame([whole, one, shallow])
    assert methods_frame(named).runs.tolist() == [1, 1, 1]  # never averaged
    assert set(named.settings) == {
        "data.patients=None, data.thin=1.0",
        "data.patients=1, data.thin=1.0",
        "data.patients=None, data.thin=0.3",
    }
    saved = {name: np.load(run.folder / "predictions.npz") for name, run in (("whole", whole), ("noisy", noisy))}
    assert 0.2 < saved["noisy"]["library_size"].sum() / saved["whole"]["library_size"].sum() < 0.4
    assert shallow.result["scc"] != whole.result["scc"]
    status, out, _ = agl("evaluate", shallow.folder, "--json")
    assert status == 0
    assert '"as_recorded": true' in out
    assert len(prepare(load([*words, "data.thin=0.3"])).experiments) == 1
