"""Every example of the site runs, prints what the page says, and fails where the page says that it fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import RUN, Block, blocks_of, holds, lines_of, run_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="session")
def my_sections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call `my_sections`: four patients with a small section each, with patches."""
    from agl.data.simulate.task import simulate

    folder = tmp_path_factory.mktemp("pages") / "my_sections"
    simulate(folder, n_patients=4, slides_per_patient=1, spots_per_slide=40, n_genes=150, patch_size=32, seed=1)
    return folder


@pytest.mark.timeout(1200)  # the longest page takes half a minute of one core, which a crowded machine may not have
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_the_examples_run(page: Path, tmp_path: Path, my_sections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of(page)
    if not any(block.runs for block in blocks):
        pytest.skip("nothing to run")
    monkeypatch.setenv("MPLBACKEND", "agg")
    shutil.copytree(my_sections, tmp_path / "my_sections")
    run_page(blocks, tmp_path)


def test_most_of_the_examples_are_run() -> None:
    examples = [block for page in PAGES for block in blocks_of(page) if block.language in RUN]
    left_out = [block for block in examples if block.left_out]
    assert len(examples) > 50
    assert len(left_out) < len(examples) / 4


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", page.read_text("utf-8"), flags=re.M)
        assert len(fences) == 2 * len(blocks_of(page)), f"a block of {page.name} has no language, or no end"


def page_of(text: str, folder: Path) -> list[Block]:
    path = folder / "page.md"
    path.write_text(text)
    return blocks_of(path)


def test_an_example_that_fails_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="division by zero"):
        run_page(page_of("```python\n1 / 0\n```\n", tmp_path), tmp_path)
    with pytest.raises(AssertionError, match="ended otherwise"):
        run_page(page_of("```bash\nagl train lss=mse\n```\n", tmp_path), tmp_path)


def test_an_output_that_differs_is_found(tmp_path: Path) -> None:
    page = "```python\nprint('SCC', 0.2)\n```\n\n```text\nSCC 0.4\n```\n"
    with pytest.raises(AssertionError, match="the page says"):
        run_page(page_of(page, tmp_path), tmp_path)
    run_page(page_of(page.replace("0.4", "0.21"), tmp_path), tmp_path)


def test_a_mistake_that_is_none_is_found(tmp_path: Path) -> None:
    page = "```bash\nagl list losses\n```\n\n```text\nagl: Expected something else.\n```\n"
    with pytest.raises(AssertionError, match="ended otherwise"):
        run_page(page_of(page, tmp_path), tmp_path)


def test_files_are_written_and_imported(tmp_path: Path) -> None:
    page = '```python title="mine_too.py"\nX = 3\n```\n\n```python\nimport mine_too\ny = mine_too.X\n```\n'
    assert run_page(page_of(page, tmp_path), tmp_path)["y"] == 3


def test_lines_of_a_shell_block() -> None:
    assert lines_of("# a comment\nagl train \\\n  loss=mse  # why\n\nls") == ["agl train loss=mse", "ls"]


def test_words_are_compared_in_order() -> None:
    assert holds("a b c d", "a ... d")
    assert not holds("a b c d", "a ... c")
    assert not holds("a b", "b a")
    assert holds("12% of 1,000", "13% of 1,000")
    assert not holds("x y", "x y z")
