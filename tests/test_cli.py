"""Commands as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from agl import registry
from agl.builtins import WHERE

QUICK = ["training.epochs=2", "primary.k=8", "primary.min_detection=0", "data.features=latent"]
QUICK += ["model=mlp", "model.hidden=[8]"]


def test_train_table_and_show_agree(agl, sections: Path, tmp_path: Path) -> None:
    words = [f"data.root={sections}", *QUICK]
    status, out, err = agl("train", *words, "--json")
    assert status == 0, err
    trained = json.loads(out)
    assert len(trained["runs"]) == 3
    status, out, _ = agl("table", "runs", "--json", "--csv", "all.csv")
    assert status == 0
    assert json.loads(out)["methods"] == trained["methods"]
    assert len(pd.read_csv(tmp_path / "all.csv")) == 3
    status, out, _ = agl("show", *words)
    assert status == 0
    assert out.count("(finished)") == 3
    status, out, _ = agl("show", *words, "--json")
    folders = set(json.loads(out)["runs"].values())
    assert folders == {run["folder"] for run in trained["runs"]}
    status, out, _ = agl("table", "runs")
    assert "SCC per slide" in out
    assert "undefined" in out


def test_the_printed_mean_is_the_mean_of_the_runs(agl, sections: Path) -> None:
    _, out, _ = agl("train", f"data.root={sections}", *QUICK, "--json")
    found = json.loads(out)
    mean = sum(run["scc"] for run in found["runs"]) / 3
    assert found["methods"][0]["scc"] == pytest.approx(mean)
    assert found["methods"][0]["undefined"] == sum(run["undefined"] for run in found["runs"])


def test_a_loss_and_a_plugin_of_ones_own(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from agl.training.plugins import Plugin\n"
        "def absolute(scores, counts, *, slides=None, power=1.0):\n"
        "    return (scores - counts.log1p()).abs().pow(power).mean(0)\n"
        "class Notes(Plugin):\n"
        "    def __init__(self, *, factor=2): self.factor = factor\n"
        "    def epoch_end(self, trainer, record): record['note'] = self.factor * trainer.epoch\n"
    )
    words = [f"data.root={sections}", *QUICK, "fold=0", "loss=mine.py:absolute", "loss.power=1.5"]
    status, _, err = agl("train", *words, "plugins=[{name: 'mine.py:Notes', factor: 3}]")
    assert status == 0, err
    history = next(tmp_path.glob("runs/run/*/history.jsonl")).read_text().splitlines()
    assert [json.loads(line)["note"] for line in history] == [3, 6]
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "# changed\n")
    assert len(list(tmp_path.glob("runs/run/*/result.json"))) == 1
    agl("train", *words, "plugins=[{name: 'mine.py:Notes', factor: 3}]")
    assert len(list(tmp_path.glob("runs/run/*/result.json"))) == 2, "other code is another run"


@pytest.mark.parametrize("kind", ["losses", "models", "gene_sets", "selectors", "splits", "auxiliary", "plugins"])
def test_list_says_what_there_is(agl, kind: str) -> None:
    status, out, err = agl("list", kind)
    assert status == 0, err
    entries = registry.names({"auxiliary": "selector"}.get(kind, kind))
    assert all(name in out for name in entries)
    assert json.loads(agl("list", kind, "--json")[1]).keys() >= set(entries)


def test_list_without_a_kind_names_all_kinds(agl) -> None:
    status, out, _ = agl("list")
    assert status == 0
    assert all(kind in out for kind in WHERE)


def test_simulate_features_check_and_train_from_patches(agl, tmp_path: Path) -> None:
    words = ["n_patients=2", "spots_per_slide=16", "n_genes=70", "patch_size=32", "seed=4"]
    assert agl("simulate", "task", *words)[0] == 0
    assert agl("features", "task")[0] == 0
    assert len(list(tmp_path.glob("task/embeddings/builtin/*.h5"))) == 2
    status, out, err = agl("check", "task", "--json")
    assert status == 0, out + err
    assert json.loads(out)["status"] in ("ok", "warning")
    quick = ["training.epochs=1", "primary.k=8", "primary.min_detection=0", "fold=0"]
    assert agl("train", "data.root=task", "data.features=builtin", *quick)[0] == 0
    status, _, err = agl("train", "data.root=task", "data.features=none", "model=resnet18", *quick)
    assert status == 0, err
    assert len(list(tmp_path.glob("runs/run/*resnet18*/result.json"))) == 1


def test_an_option_of_the_simulation_that_is_not_there(agl) -> None:
    status, _, err = agl("simulate", "task", "n_patient=2")
    assert status == 2
    assert "Did you mean 'n_patients'?" in err


def test_check_of_a_broken_folder_has_status_2(agl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert agl("check", "empty")[0] == 2


def test_help_is_quick_and_names_the_commands(agl) -> None:
    status, out, _ = agl("--help")
    assert status == 0
    for command in ("train", "evaluate", "predict", "table", "list", "show", "check", "features", "simulate", "demo"):
        assert command in out


def test_a_gene_list_names_the_primary_genes_and_the_table_says_so(agl, sections: Path) -> None:
    words = [f"data.root={sections}", "data.features=latent", "training.epochs=1", "fold=0"]
    words += ["model=mlp", "model.hidden=[8]"]
    lists = ["primary=file", "primary.path=var_50genes.json", "auxiliary.genes=file"]
    status, out, err = agl("train", *words, *lists, "auxiliary.genes.path=oracle_genes.json", "--json")
    assert status == 0, err
    assert json.loads(out)["methods"][0]["auxiliary"] == "file(path=oracle_genes.json)"
    status, _, err = agl("train", *words, "primary=file")
    assert status == 2
    assert "needs path=..." in err
