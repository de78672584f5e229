"""The scripts that make tables of runs, on tables small enough to check by hand."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from agl.config import Config

SCRIPTS = Path(__file__).parents[2] / "experiments"


def script(*words: object) -> list[list[str]]:
    """The cells of the Markdown table that a script prints."""
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]


def table(tmp_path: Path) -> Path:
    """Auxiliary genes gain .02 in fold 0 and .04 in fold 1, and some of them .01 with the one seed they have."""
    rows = ["split,loss,data,fold,seed,auxiliary,scc"]
    for fold in (0, 1):
        for seed in (0, 1):
            alone = 0.1 + fold + 0.01 * seed
            rows += [
                f"out,mse,d,{fold},{seed},none,{alone}",
                f"out,mse,d,{fold},{seed},all,{alone + 0.02 * (fold + 1)}",
            ]
        rows.append(f"out,mse,d,{fold},1,some,{0.12 + fold}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows))
    return path


def test_differences_are_paired_by_fold_and_seed(tmp_path):
    none, all_genes, some = script(SCRIPTS / "paired.py", table(tmp_path))
    assert none[3:] == ["0.605", "+0.000", "+0.000, +0.000", "2"]
    assert all_genes[3:] == ["0.635", "+0.030", "+0.020, +0.040", "2"]
    assert some[3:] == ["0.620", "+0.010", "+0.010, +0.010", "1"]  # beside seed 1 of none, not beside both


def test_the_wide_table_says_where_seeds_are_missing(tmp_path):
    all_genes, some = script(SCRIPTS / "paired.py", table(tmp_path), "--wide")
    assert all_genes == ["out", "all", "+0.030 (+0.020 to +0.040)"]
    assert some == ["out", "some", "+0.010 (+0.010 to +0.010), seeds: 1"]


def test_rows_are_added_to_an_earlier_table(agl, sections, tmp_path):
    words = ["train", f"data.root={sections}", "data.features=latent", "fold=0", "training.epochs=1", "primary.k=5"]
    for seed in (0, 1):
        code, _, err = agl(*words, f"seed={seed}", f"output=runs{seed}")
        assert code == 0, err
    write, out = [sys.executable, SCRIPTS / "write_tables.py"], tmp_path / "out"

    def seeds() -> list[str]:
        with (tmp_path / "out_runs.csv").open() as file:
            return [row["seed"] for row in csv.DictReader(file)]

    subprocess.run([*write, tmp_path / "runs0", tmp_path / "runs1", out], check=True)
    assert seeds() == ["0", "1"]
    both = (tmp_path / "out.md").read_text()
    subprocess.run([*write, tmp_path / "runs1", out], check=True)
    assert seeds() == ["1"]
    for _ in range(2):  # the second time every row is known
        subprocess.run([*write, tmp_path / "runs0", out, "--add"], check=True)
        assert seeds() == ["0", "1"]
    assert (tmp_path / "out.md").read_text() == both


def test_settings_are_named_by_what_differs():
    sys.path.insert(0, str(SCRIPTS / "inner_steps"))
    try:
        from settings_table import setting
    finally:
        sys.path.pop(0)
    config = Config().with_("auxiliary.genes=dkgsb", "auxiliary.outer.steps=12", "auxiliary.outer.warm=false")
    assert setting(config) == "H=12, training, fresh"
    assert setting(Config().with_("auxiliary.genes=none")) == "primary genes alone"


def test_agls_protocol_names_genes_in_the_papers_words():
    sys.path.insert(0, str(SCRIPTS / "agl_intra_slide"))
    try:
        from protocol_table import genes
    finally:
        sys.path.pop(0)
    assert genes(Config().with_("auxiliary.genes=none")) == "PGL: primary genes alone"
    assert genes(Config().with_("auxiliary.genes=all")) == "ALL"
    learned = Config().with_("auxiliary.genes=dkgsb", "auxiliary.outer.steps=12", "auxiliary.objective=sum")
    assert genes(learned) == "dkgsb, H=12 training, sum"


def test_studies_beside_the_published_table(tmp_path):
    """Two functions and two seeds of two losses; the second study has one of them."""
    columns = "method,function,sampling,seed,scale,offset,r,oracle,honest,last"
    rows = [
        f"{method},{function},{sampling},{seed},10,10,100,{score + function / 10 + seed / 50},{score},0"
        for method, score in (("MSE", 0.2), ("PCC per tissue", 0.5))
        for function in (0, 1)
        for sampling in ("uniform", "imbalanced")
        for seed in (0, 1)
    ]
    for name, kept in (("long", rows), ("short", rows[:8])):
        (tmp_path / f"{name}_trainings.csv").write_text("\n".join([columns, *kept]))
    files = [tmp_path / f"{name}_trainings.csv" for name in ("long", "short")]
    place = SCRIPTS / "strank_synthetic/side_by_side.py"
    oracle = script(place, *files)
    assert oracle[0] == ["MSE", "0.748", "0.260 ± 0.014", "**0.260 ± 0.014**"]  # .25 and .27: SD .0141
    assert oracle[1] == ["PCC per tissue", "", "**0.560 ± 0.014**", ""]
    honest = script(place, "honest", *files)
    assert honest[:2] == [
        ["MSE", "0.748", "0.200 ± 0.000", "**0.200 ± 0.000**"],
        ["PCC per tissue", "", "**0.500 ± 0.000**", ""],
    ]
    assert honest[-2][:2] == ["MSE", "0.583"]  # the imbalanced table
