"""The whole report through the command line: one page without a network, from files alone."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from agl.analysis.results import read_results
from agl.reporting.build import write_report
from agl.reporting.inputs import ReportOptions
from agl.runs.folder import find_runs
from agl.testing.runs import write_search

Make = Callable[..., Path]


class Page(HTMLParser):
    """Tags, ids, targets, and whether every element is closed."""

    VOID = ("meta", "br", "img", "input", "path", "use", "image", "rect", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(found[name]) for name in ("href", "src", "xlink:href") if found.get(name)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_is_self_contained_and_well_formed(built: tuple[Path, Path]) -> None:
    _, path = built
    page = Page(path.read_text())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    here = {f"#{name}" for name in page.ids}
    for link in page.links:
        assert link in here or link.startswith("data:"), link  # nothing outside: the page can be sent alone
    tables = [base64.b64decode(link.partition(",")[2]) for link in page.links if link.startswith("data:text/csv")]
    beside = [file.read_bytes() for file in path.parent.rglob("*.csv")]
    assert len(tables) > 5
    assert all(table in beside for table in tables)
    text = path.read_text()
    assert "<script" not in text
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "prefers-color-scheme: dark" in text
    assert "a&lt;b" in text  # the study's name is text, not markup


def test_every_figure_has_its_files_and_its_data(built: tuple[Path, Path]) -> None:
    _, path = built
    names = {file.stem for file in (path.parent / "figures").iterdir()}
    kinds = ("scores", "differences", "genes-scatter", "genes-bars", "genes-profit", "map", "selection-epochs")
    for kind in (*kinds, "selection-mask", "selection-stability"):
        assert any(name.startswith(kind) for name in names), kind
    for name in names:
        for ending in ("svg", "png", "csv"):
            assert (path.parent / "figures" / f"{name}.{ending}").stat().st_size > 100
        assert len(pd.read_csv(path.parent / "figures" / f"{name}.csv")) > 0


def test_numbers_in_the_page_are_those_of_the_runs(built: tuple[Path, Path]) -> None:
    root, path = built
    page = Page(path.read_text()).text
    frame = read_results(find_runs(root)).frame
    for method, runs in frame.groupby("method"):
        mean, sd = runs.groupby("fold").scc.mean().mean(), runs.scc.std(ddof=1)
        assert f"{mean:.3f} ± {sd:.3f}" in page, method
        assert f"{mean:.3f} ± {sd:.3f}" in (path.parent / "report.md").read_text()
    assert "listwise + dkgsb ranks better than listwise" in page
    assert "p = 0.016" in page  # 2 / 2^7: all seven patients agree
    assert "8 slides, 12 genes" in page
    for word in ("Leak audit", "Protocol", "Provenance", "Learned selection", "SHA-256", "0123456789ab"):
        assert word in page


def test_the_same_runs_give_the_same_report(built: tuple[Path, Path], tmp_path: Path) -> None:
    root, path = built
    again = write_report([root], tmp_path / "again", options=ReportOptions(slides=("S0",), genes=("GENE4",)))
    assert again.read_bytes() == path.read_bytes()
    assert again.with_name("report.md").read_bytes() == path.with_name("report.md").read_bytes()


def test_a_shade_says_that_there_is_more_and_every_wide_thing_can_be_scrolled(built: tuple[Path, Path]) -> None:
    text = built[1].read_text()
    assert ".wide, .drawing { overflow-x:auto; background:linear-gradient" in text
    assert text.count('class="wide" tabindex="0"') == text.count('class="wide"') > 3  # with the keyboard, too
    assert text.count('class="zoom"') == text.count("larger</label>") > 0


def test_on_paper_nothing_is_cut_off_or_folded(built: tuple[Path, Path]) -> None:
    text = built[1].read_text()
    paper = text[text.index("@media print") : text.index("</style>")]
    for rule in (".wide, .drawing { overflow:visible;", "details::details-content { content-visibility:visible;"):
        assert rule in paper
    assert ".listing { display:none; }" in paper
    assert text.count('<details class="listing">') == text.count("<pre>") > 0  # configs are for the screen


def test_figures_are_drawn_in_theme_colours_only(built: tuple[Path, Path]) -> None:
    from agl.reporting.style import GRID, INK, MUTED

    body = built[1].read_text().split("<main>")[1]
    assert not any(colour in body for colour in (INK, MUTED, GRID, "#000000"))


@pytest.fixture
def few(make_run: Make, world, tmp_path: Path) -> Path:
    """Two methods over three patients, without maps."""
    for fold in range(3):
        for loss in ("mse", "pearson"):
            folder = make_run(tmp_path / "runs", world, f"loss={loss}", fold=fold)
            (folder / "predictions.npz").unlink()
    return tmp_path / "runs"


def test_the_command_says_where_and_says_when_n_is_too_small(agl, few: Path, tmp_path: Path) -> None:
    status, out, err = agl("report", few, "--out", tmp_path / "out", "--baseline", "loss=mse")
    assert (status, err) == (0, "")
    assert out.strip() == f"Wrote {tmp_path / 'out' / 'report.html'}"
    page = Page((tmp_path / "out" / "report.html").read_text()).text
    assert "n too small: with 3 patients no test can reach p < 0.05" in page
    assert "ranks better than" not in page
    assert "*" not in page.split("Provenance")[0]  # no stars
    assert "found none. Train that run again to draw its maps." in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "loss=mze"], "Did you mean 'mse'?"),
        (["--baseline", "pearsn"], "Did you mean 'pearson'?"),
        (["--method", "pearso"], "Did you mean 'pearson'?"),
        (["--gene", "GENE77"], "Did you mean 'GENE7'?"),
        (["--slide", "S77"], "Expected a test slide of these runs, received 'S77'."),
        (["--unit", "spot"], "Expected --unit auto, patient, slide, received 'spot'."),
    ],
)
def test_what_does_not_exist_is_one_sentence(agl, few: Path, words: list[str], message: str) -> None:
    status, _, err = agl("report", few, *words)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert [path.name for path in few.iterdir()] == ["run"]  # nothing half-written


def test_folders_without_runs_and_foreign_folders(agl, few: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = agl("report", tmp_path / "empty")
    assert (status, "found none. Train some with `agl train`." in err) == (2, True)
    assert agl("report", tmp_path / "nowhere")[0] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    status, _, err = agl("report", few, "--out", tmp_path / "mine")
    assert (status, "found something else. Set --out." in err) == (2, True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_mixed_data_sets_are_never_averaged(make_run: Make, world, tmp_path: Path) -> None:
    from dataclasses import replace

    for key in ("worldkey", "secondkey"):
        for loss in ("mse", "pearson"):
            folder = make_run(tmp_path / key, replace(world, key=key), f"loss={loss}", fold=1)
            (folder / "predictions.npz").unlink()
    path = write_report([tmp_path / "worldkey", tmp_path / "secondkey"], tmp_path / "out")
    page = Page(path.read_text()).text
    assert "Scores · simulated worldk" in page
    assert "Scores · simulated second" in page
    for key in ("simulated-worldk", "simulated-second"):
        table = pd.read_csv(tmp_path / "out" / "tables" / f"methods-{key}.csv")
        assert list(table.runs) == [1, 1]


def test_a_single_run_is_a_report_too(make_run: Make, world, tmp_path: Path) -> None:
    folder = make_run(tmp_path, world, fold=1)
    page = Page(write_report([folder], tmp_path / "out").read_text()).text
    assert "Differences" not in page  # nothing to compare: no section, no link to one
    assert "± nan" not in page


def test_a_search_comes_with_the_test_score_of_its_choice(make_run: Make, world, tmp_path: Path) -> None:
    folders = []
    for rate in ("0.1", "0.01", "0.001"):
        folders.append(make_run(tmp_path / "runs", world, f"training.learning_rate={rate}", fold=1))
        (folders[-1] / "predictions.npz").unlink()
    moved = [Path("moved") / folder.name for folder in folders]  # runs are found by name, wherever they are now
    write_search(tmp_path / "runs", moved, values=[0.1, 0.9, 0.2])
    page = Page(write_report([tmp_path / "runs"]).read_text()).text
    score = next(run for run in find_runs(tmp_path / "runs") if run.folder.name == folders[1].name).result["scc"]
    assert "Best on the objective: trial 1 (objective 0.900) with training.learning_rate = 0.01." in page
    assert f"Its SCC on the test spots: {score:.3f} over 1 runs." in page
    assert "is no estimate: " in page
