"""The scripts that make tables of runs, on tables small enough to check by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agl.config import Config

SCRIPTS = Path(__file__).parents[2] / "experiments"


def script(*words: object) -> list[list[str]]:
    """The cells of the Markdown table that a script prints."""
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]


def test_differences_are_paired_by_fold_and_seed(tmp_path):
    rows = ["split,loss,data,fold,seed,auxiliary,scc"]
    for fold in (0, 1):
        for seed in (0, 1):
            alone = 0.1 + fold + 0.01 * seed
            rows += [
                f"out,mse,d,{fold},{seed},none,{alone}",
                f"out,mse,d,{fold},{seed},all,{alone + 0.02 * (fold + 1)}",
            ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows))
    none, all_genes = script(SCRIPTS / "paired.py", path)
    assert none[3:] == ["0.605", "+0.000", "+0.000, +0.000", "2"]
    assert all_genes[3:] == ["0.635", "+0.030", "+0.020, +0.040", "2"]  # folds gained .02 and .04


def test_settings_are_named_by_what_differs():
    sys.path.insert(0, str(SCRIPTS / "inner_steps"))
    try:
        from settings_table import setting
    finally:
        sys.path.pop(0)
    config = Config().with_("auxiliary.genes=dkgsb", "auxiliary.outer.steps=12", "auxiliary.outer.warm=false")
    assert setting(config) == "H=12, training, fresh"
    assert setting(Config()) == "primary genes alone"


def test_agls_protocol_names_genes_in_the_papers_words():
    sys.path.insert(0, str(SCRIPTS / "agl_intra_slide"))
    try:
        from protocol_table import genes
    finally:
        sys.path.pop(0)
    assert genes(Config()) == "PGL: primary genes alone"
    assert genes(Config().with_("auxiliary.genes=all")) == "ALL"
    learned = Config().with_("auxiliary.genes=dkgsb", "auxiliary.outer.steps=12", "auxiliary.objective=sum")
    assert genes(learned) == "dkgsb, H=12 training, sum"
