"""Stored predictions under other protocols, against SciPy and by hand."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr

from agl.analysis.moves import at, firsts, moves, order_pairs, ranked
from agl.analysis.protocol_tables import runs_protocols
from agl.analysis.protocols import BENCHMARK, CHOICES, OURS, protocol_scores
from agl.analysis.results import Predictions, read_predictions
from agl.errors import UserError
from agl.runs.folder import find_runs
from agl.testing.runs import ExampleSlides, write_run

R = {"Pearson": pearsonr, "Spearman": spearmanr}


def predictions(slides: dict[str, int], genes: list[str], seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    n = sum(slides.values())
    counts = rng.poisson(4.0, size=(n, len(genes)))
    library_size = counts.sum(1) + rng.integers(5, 40, n)
    counts[1], library_size[1] = 0, 0  # a spot without any count
    return Predictions(
        scores=(np.log1p(counts) + rng.normal(size=counts.shape)).astype(np.float32),
        counts=counts,
        library_size=library_size,
        genes=genes,
        slide=np.repeat(list(slides), list(slides.values())),
        barcode=np.array([str(i) for i in range(n)]),
        x=np.zeros(n),
        y=np.zeros(n),
    )


def columns(found: Predictions, target: str, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and target of some spots, without those that have no target."""
    if target == "log1p":
        return found.scores[keep].astype(float), np.log1p(found.counts[keep])
    keep = keep & (found.library_size > 0)
    share = 1e4 * found.counts[keep] / found.library_size[keep][:, None]
    return found.scores[keep].astype(float), np.log1p(share)


def witness(found: Predictions, correlation: str, spots: str, target: str) -> dict[str, float]:
    """Slide (or "all") -> mean over genes, gene by gene through SciPy."""
    groups = {"all": np.ones(len(found.slide), dtype=bool)}
    if spots == "per slide":
        groups = {slide: found.slide == slide for slide in np.unique(found.slide)}
    means = {}
    for name, keep in groups.items():
        scores, truth = columns(found, target, keep)
        means[name] = float(np.mean([R[correlation](scores[:, g], truth[:, g])[0] for g in range(scores.shape[1])]))
    return means


FIRST = predictions({"A": 30, "B": 12}, ["g", "h", "i"], 0)
SECOND = predictions({"C": 20}, ["h", "g", "k"], 1)


@pytest.mark.parametrize(("correlation", "spots", "target"), list(product(*list(CHOICES.values())[:3])))
def test_every_protocol_against_scipy(correlation, spots, target) -> None:
    """Two folds with other genes in another order: together a gene is pooled over the folds that have it."""
    table = protocol_scores([{0: FIRST, 1: SECOND}])
    here = table[(table.correlation == correlation) & (table.spots == spots) & (table.target == target)]
    here = here.set_index("folds")
    slides = [witness(fold, correlation, spots, target) for fold in (FIRST, SECOND)]
    folds = [np.mean(list(each.values())) for each in slides]
    assert here.score["mean of folds"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert here.sd["mean of folds"] == pytest.approx(np.std(folds), abs=1e-6)
    if spots == "per slide":
        expected = np.mean([value for each in slides for value in each.values()])
    else:
        one, two = (columns(fold, target, np.ones(len(fold.slide), dtype=bool)) for fold in (FIRST, SECOND))
        places = {"g": (0, 1), "h": (1, 0), "i": (2, None), "k": (None, 2)}
        values = []
        for first, second in places.values():
            parts = [(p[0][:, g], p[1][:, g]) for p, g in ((one, first), (two, second)) if g is not None]
            scores, truth = (np.concatenate(each) for each in zip(*parts, strict=True))
            values.append(R[correlation](scores, truth)[0])
        expected = np.mean(values)
    assert here.score["together"] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(here.sd["together"])


def test_seeds_are_averaged_inside_a_fold() -> None:
    other = predictions({"A": 30, "B": 12}, ["g", "h", "i"], 2)
    table = at(protocol_scores([{0: FIRST, 1: SECOND}, {0: other}]).assign(method="m"), BENCHMARK)
    alone = [np.mean(list(witness(each, "Pearson", "pooled", "log1p").values())) for each in (FIRST, other, SECOND)]
    assert table.score["m"] == pytest.approx(np.mean([np.mean(alone[:2]), alone[2]]), abs=1e-6)


def test_a_constant_gene_is_left_out_and_a_constant_prediction_counts_nothing() -> None:
    found = predictions({"A": 30}, ["g", "h", "i"], 3)
    found.counts[:, 0] = 7
    found.scores[:, 1] = 2.0
    table = at(protocol_scores([{0: found}]).assign(method="m"), BENCHMARK)
    scores, truth = columns(found, "log1p", np.ones(30, dtype=bool))
    assert table.score["m"] == pytest.approx((0 + pearsonr(scores[:, 2], truth[:, 2])[0]) / 2, abs=1e-6)


FRAME = pd.DataFrame(
    [
        {"method": method, "spots": spots, "target": target, "score": score, "sd": 0.05}
        for method, scores in {"a": (0.40, 0.30, 0.5), "b": (0.30, 0.35, 0.2), "c": (0.20, 0.10, 0.1)}.items()
        for (spots, target), score in zip([("pooled", "x"), ("slide", "x"), ("pooled", "y")], scores, strict=True)
    ]
)


def test_what_a_choice_moves_by_hand() -> None:
    spots, target = moves(FRAME, {"spots": "pooled", "target": "x"}).to_dict("records")
    assert (spots["change"], target["change"]) == ("pooled to slide", "x to y")
    assert [spots[name] for name in ("mean", "lowest", "highest")] == pytest.approx([-0.05, -0.10, 0.05])
    assert spots["spreads"] == pytest.approx((0.10 + 0.05 + 0.10) / 3 / 0.05)
    assert (spots["turned"], spots["pairs"]) == (1, 3)
    assert (spots["first_before"], spots["first"]) == ("a", "b")
    assert (target["turned"], target["first"]) == (0, "a")
    for row, after in ((spots, [0.30, 0.35, 0.10]), (target, [0.5, 0.2, 0.1])):
        assert row["tau"] == pytest.approx(kendalltau([0.4, 0.3, 0.2], after)[0])


def test_a_choice_that_says_nothing_about_a_method_moves_it_in_rank_alone() -> None:
    frame = FRAME[FRAME.target == "x"].assign(applies=True)
    frame.loc[(frame.method == "b") & (frame.spots == "slide"), ["score", "applies"]] = [0.30, False]
    frame.loc[(frame.method == "a") & (frame.spots == "slide"), "score"] = 0.25
    [row] = moves(frame.drop(columns="target"), {"spots": "pooled"}).to_dict("records")
    assert row["mean"] == pytest.approx((-0.15 - 0.10) / 2)
    assert row["turned"] == 1


def test_ranks_and_firsts_share_what_is_equal() -> None:
    frame = pd.DataFrame({"method": list("abab"), "spots": list("ppss"), "score": [0.2, 0.2, 0.1, np.nan]})
    assert ranked(frame, ["spots"])["rank"].tolist() == [1, 1, 1, pd.NA]
    assert firsts(frame, ["spots"]).to_dict() == {"a": 2, "b": 1}


def test_scores_that_read_the_same_and_undefined_ones_are_in_no_order() -> None:
    assert order_pairs(np.array([0.3, 0.3001, 0.1]), np.array([0.1, 0.3, np.nan])) == (0, 0, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    base, world = tmp_path_factory.mktemp("runs"), ExampleSlides({"p": ["a0", "a1"], "q": ["b1"], "r": ["c1"]})
    for fold in range(3):
        for loss, noise in (("mse", 1.5), ("listwise", 0.5)):
            write_run(base, world, f"loss={loss}", fold=fold, noise=noise)
    return base


def test_the_protocols_of_runs_agree_with_what_they_wrote(root) -> None:
    [found] = runs_protocols(find_runs(root)).values()
    results = [run.result for run in find_runs(root) if run.config.loss.name == "mse"]
    for protocol, key in (
        (OURS, "scc"),
        (OURS | {"correlation": "Pearson"}, "pcc"),
        (OURS | {"spots": "pooled"}, "scc_pooled"),
        (OURS | {"spots": "pooled", "correlation": "Pearson"}, "pcc_pooled"),
        (BENCHMARK, "pcc_log1p_pooled"),
    ):
        row = at(found.scores, protocol).loc["mse"]
        assert row.score == pytest.approx(np.mean([result[key] for result in results]), abs=1e-9), key
        assert row["rank"] == 2
    assert len(found.scores) == 2 * 16
    assert found.firsts == "first among all 16 protocols: listwise in 16"


def test_agl_table_protocols(agl, root) -> None:
    code, out, err = agl("table", root, "--protocols")
    assert code == 0, err
    assert "what each choice moves" in out
    assert "Spearman to Pearson" in out
    assert "first among all 16 protocols: listwise in 16" in out
    code, out, _ = agl("table", root, "--protocols", "--json")
    [block] = json.loads(out)["protocols"]
    assert code == 0
    assert block["reference"] == OURS
    assert {row["choice"] for row in block["moves"]} == set(CHOICES)
    scores = pd.DataFrame(block["scores"])
    one = read_predictions(next(run.folder for run in find_runs(root)))
    assert set(scores.method) == {"mse", "listwise"}
    assert one.scores.shape[1] == 12


def test_runs_without_predictions_are_a_sentence(agl, tmp_path) -> None:
    folder = write_run(tmp_path, ExampleSlides({"p": ["a1"], "q": ["b1"]}), fold=0)
    (folder / "predictions.npz").unlink()
    code, _, err = agl("table", tmp_path, "--protocols")
    assert code == 2
    assert "Expected predictions.npz" in err
    with pytest.raises(UserError):
        runs_protocols(find_runs(tmp_path))
