"""Names that a page, a figure or a file could take for something else: markup, mathematics, paths, formats."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from agl.reporting.build import write_report
from agl.reporting.inputs import ReportOptions
from agl.testing import runs as example
from agl.trees import written

NAMES = {
    "markup": "<script>alert(1)</script>",
    "an attribute": '"><img src=x onerror=alert(1)>',
    "an entity": "A&amp;B&lt;",
    "broken mathematics": r"$\frac{1}{$",
    "mathematics": "$x_1$",
    "a path": "../../x",
    "a root": "/etc/x",
    "formats": "%s %n {0} {sections",
    "quotes": 'it\'s "it" `it`',
    "a pipe": "a|b | c",
    "a pictogram": "🧬👨‍👩‍👧",
    "a new line": "a\nb",
    "300 letters": "x" * 300,
    "an underscore": "_hidden_",
    "nothing there": "NA",
    "Jinja": "{{ 7 * 7 }}{% raw %}",
}


class Page(HTMLParser):
    """What a browser would run, load or show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.handlers += [str(value) for name, value in attrs if name in ("src", "href") and "javascript" in str(value)]

    def handle_data(self, data: str) -> None:
        self.text += data


def build(tmp_path: Path, study: str, slides: list[str], title: str, **options: object) -> Path:
    """A page about two methods; nothing may be written outside its folder."""
    root = tmp_path / "deep" / "runs"
    world = example.ExampleSlides({slide: [slide] for slide in slides})
    for fold in range(len(slides)):
        for words in (["loss=mse"], ["auxiliary.genes=dkgsb"]):
            chosen = example.CANDIDATES[:9] if "auxiliary.genes=dkgsb" in words else ()
            example.write_run(root / "r", world, *words, f"name={written(study)}", fold=fold, chosen=chosen)
    page = write_report([root], tmp_path / "deep" / "report", title=title, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}, "nothing outside"
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"runs", "report"}
    return page


def check(page: Path, title: str) -> None:
    """Names are text, and the title is there to the letter."""
    seen = Page(page.read_text("utf-8"))
    assert not seen.tags & {"script", "img", "iframe", "object"}
    assert seen.handlers == []
    assert " ".join(title.split()) in " ".join(seen.text.split())


def test_genes_and_slides_with_such_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once: a gene and a slide of every name, the worst of them drawn one by one."""
    names = list(NAMES.values())
    monkeypatch.setattr(example, "GENES", names)
    monkeypatch.setattr(example, "CANDIDATES", [f"{name}2" for name in names])
    slides = [f"S{name}" for name in names]
    worst = [NAMES[kind] for kind in ("broken mathematics", "a path", "markup")]
    options = ReportOptions(slides=(f"S{worst[1]}",), genes=tuple(worst))
    page = build(tmp_path, "study", slides, "A page", options=options)
    check(page, "A page")
    table = pd.read_csv(page.parent / "tables" / "per_gene.csv", keep_default_na=False)
    assert set(table.gene) == set(names)
    assert set(table.slide) == set(slides)


@pytest.mark.parametrize(
    "kind", [kind for kind in NAMES if kind not in ("a path", "a root", "a new line", "300 letters")]
)
def test_studies_and_titles_with_such_names(kind: str, tmp_path: Path) -> None:
    name = NAMES[kind]
    page = build(tmp_path, name, ["S1", "S2"], f"On {name}", sections=("summary", "scores", "provenance"))
    check(page, f"On {name}")
