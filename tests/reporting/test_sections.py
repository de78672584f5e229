"""Every section keeps the contract, and one of your own stands on the page like ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl import registry
from agl.errors import UserError
from agl.reporting.build import write_report
from agl.reporting.inputs import read_input
from agl.reporting.making import KIND, make_sections, section_makers
from agl.reporting.parts import PageSection, Table, Text, write_csv
from agl.reporting.sections.summary import answers, summary
from agl.testing import check_report_section
from agl.testing.report_sections import write_example

OWN = """
import pandas as pd
from agl.reporting.parts import Table, Text, write_csv
from agl.reporting.style import house_style, new_figure, save

def spread_of_genes(block):
    '''The widest and the narrowest gene.'''
    spread = block.cells.groupby("gene").scc.std().dropna().sort_values()
    if spread.empty:
        return []
    table = spread.rename("sd").reset_index()
    csv = write_csv(block.folder, f"spread-{block.results.blocks.index(block.name)}", table)
    with house_style():
        figure = new_figure(3, 2)
        figure.add_subplot().hist(spread)
    name = f"spread-{block.results.blocks.index(block.name)}"
    drawn = save(figure, block.figures, name, "Spread", "Over the genes.", table)
    rows = pd.DataFrame({"gene": table.gene, "sd": [f"{sd:.3f}" for sd in table.sd]})
    return [Text(f"{spread.index[-1]} varies most."), Table("Spread", rows, csv=csv), drawn]

def counted(report):
    return [Text(f"{len(report.results.runs)} runs in {len(report.blocks)} blocks.")]

def neither(runs):
    return []

def number(block):
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


@pytest.mark.parametrize("name", registry.names(KIND))
def test_ours_keep_the_contract(name: str) -> None:
    check_report_section(registry.find(KIND, name))


def test_the_battery_has_something_for_each_of_ours(tmp_path: Path) -> None:
    report = read_input([write_example(tmp_path / "runs", folds=[0])], tmp_path / "report")
    for maker in section_makers():  # the recommendation speaks of a folder that `agl recommend` wrote
        assert make_sections([maker], report) or maker.name == "recommendation"


def test_one_from_a_file_keeps_it_too(own: Path) -> None:
    check_report_section(registry.find(KIND, f"{own}:spread_of_genes"))
    check_report_section(registry.find(KIND, f"{own}:counted"))


def _changes(block):
    block.results.frame["scc"] = 0.0
    return [Text("done")]


def _random(block):
    return [Text(str(np.random.default_rng().random()))]


def _overwrites(block):
    return [Table("t", pd.DataFrame({"a": ["1"]}), csv=write_csv(block.folder, "mine", block.frame))]


def _needs_predictions(block):
    return [Text(str(np.load(block.results.runs[0].folder / "predictions.npz")["scores"].shape))]


def _elsewhere(report):
    report.folder.mkdir(exist_ok=True)
    (report.folder / "note.txt").write_text("here")
    return [Text("done")]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (lambda runs: [], "to take `block`"),
        (lambda block: "words", "received str"),
        (lambda block: [Text("a"), 3], "received list"),
        (lambda block: PageSection(" ", [Text("a")]), "Expected a title"),
        (lambda block: [Table("t", pd.DataFrame({"a": [0.12345]}))], "cells as words, received 0.12345"),
        (lambda block: [Table("t", pd.DataFrame({"a": ["1"]}), csv="tables/no.csv")], "tables/no.csv .* found none"),
        (_changes, "frame as they were, found them changed"),
        (_random, "the same section twice"),
        (_overwrites, "received tables/mine.csv from both"),
        (_needs_predictions, r"runs without predictions.npz, .*FileNotFoundError"),
        (_elsewhere, r"found note.txt"),
    ],
)
def test_what_breaks_the_contract(section: Callable, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_report_section(section)


def test_the_page_is_the_list(agl, make_run, world, own: Path, tmp_path: Path) -> None:
    for loss in ("mse", "pearson"):
        make_run(tmp_path / "runs", world, f"loss={loss}", fold=1)
    words = ["--section", f"{own}:counted", "--section", "scores", "--section", f"{own}:spread_of_genes"]
    status, _, err = agl("report", tmp_path / "runs", "--out", tmp_path / "out", *words)
    assert (status, err) == (0, "")
    text = (tmp_path / "out" / "report.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Counted",
        "## Scores",
        "## Spread of genes",
    ]
    assert "2 runs in 1 blocks." in text
    assert (tmp_path / "out" / "tables" / "spread-0.csv").is_file()


def test_all_stands_for_the_built_in_ones(own: Path) -> None:
    ours = [maker.name for maker in section_makers()]
    assert ours == registry.names(KIND)
    assert [maker.name for maker in section_makers(["all", f"{own}:counted"])] == [*ours, f"{own}:counted"]
    assert [maker.name for maker in section_makers(["maps", "all"])][:2] == ["maps", ours[0]]  # each once


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scors", "Unknown report section 'scors'. Did you mean 'scores'?"),
        ("{own}:counter", "Did you mean 'counted'?"),
        ("{own}:neither", "Expected a report section to take `block`"),
        ("{own}:number", "received int; return one of these"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(
    name: str, message: str, own: Path, make_run, world, tmp_path: Path
) -> None:
    make_run(tmp_path / "runs", world, fold=1)
    with pytest.raises(UserError) as caught:
        write_report([tmp_path / "runs"], sections=[name.format(own=own)])
    assert message in str(caught.value)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_the_summary_says_nothing_twice(runs: Path, tmp_path: Path) -> None:
    """A method's counterpart without auxiliary genes is often the baseline, too."""
    report = read_input([runs], tmp_path / "out")
    assert [family.name for family in report.blocks[0].compared] == ["differences", "differences-matched"]
    words = [item.words for item in summary(report).items if isinstance(item, Text)]
    assert len(words) == len(set(words)) >= 1


def test_the_first_numbers_are_those_of_the_runs(runs: Path, tmp_path: Path) -> None:
    report = read_input([runs], tmp_path / "out")
    (block,) = report.blocks
    best = block.results.methods(block.name)[0]
    mine = block.frame[block.frame.method == best]
    by_fold = mine.groupby("fold").scc.mean()
    highest, difference, share = answers(block)
    assert (highest.question, highest.value) == (f"Highest mean: {best}", f"{by_fold.mean():.3f}")
    assert highest.spread == f"SCC per slide; {len(by_fold)} folds: {by_fold.min():.3f} to {by_fold.max():.3f}"
    compared = block.compared[0].comparisons
    row = compared.table[compared.table.method == best].iloc[0]
    assert difference.question == f"{best} against {row.baseline}"
    assert difference.value == f"{row.difference:+.3f}"
    assert f"95% interval over {row.n} patients [{row.units_low:+.3f}".replace("-", "−") in difference.spread
    assert share.value == f"{mine.groupby('fold').share.mean().mean():.0%}"


def test_too_few_units_claim_nothing_in_large_type_either(make_run: Callable, world, tmp_path: Path) -> None:
    for fold in range(3):
        for loss in ("mse", "pearson"):
            make_run(tmp_path / "runs", world, f"loss={loss}", fold=fold)
    report = read_input([tmp_path / "runs"], tmp_path / "out")
    difference = answers(report.blocks[0])[1]
    row = report.blocks[0].compared[0].comparisons.table.iloc[0]
    span = f"[{row.units_low:+.3f}, {row.units_high:+.3f}]".replace("-", "−")
    assert difference.spread == f"SCC; 95% interval over 3 patients {span}; too few to claim a difference"


def test_several_blocks_are_a_line_each(make_run: Callable, world, tmp_path: Path) -> None:
    from dataclasses import replace

    for key in ("worldkey", "secondkey"):
        for loss in ("mse", "pearson"):
            make_run(tmp_path / key, replace(world, key=key), f"loss={loss}", fold=1)
    report = read_input([tmp_path / "worldkey", tmp_path / "secondkey"], tmp_path / "out")
    (table,) = (item for item in summary(report).items if isinstance(item, Table))
    assert list(table.rows["runs on"]) == [block.name for block in report.blocks]
    assert list(table.rows["of"]) == ["1", "1"]
