"""Pages as programs: the fenced blocks of a Markdown file, run in their order as a reader would.

    python           runs; all blocks of a page share one namespace
    bash             runs line by line; `agl` and `python` in this process, which saves the seconds of importing torch
    any, with title="mine.py"     is written to that file instead
    yaml             is parsed
    text             after a block that runs: what it prints, or the mistake it ends with ("agl: ...", "UserError: ...")

`<!-- not run: reason -->` on the line before a block leaves it out.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)(?P<rest>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
LEFT_OUT = re.compile(r"<!-- not run: (?P<reason>.+?) -->\s*$")
NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?%?$")
RUN = ("python", "bash")
NEAR = 0.03  # figures on a page may differ by this much, or by a tenth, on another machine


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it is, and why it is not run, if it is not."""

    page: str
    line: int
    language: str
    title: str
    code: str
    left_out: str = ""

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.title and not self.left_out

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks_of(path: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text, found = path.read_text("utf-8"), []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["rest"])
        why = LEFT_OUT.search(text[: match.start()])
        found.append(
            Block(
                path.name,
                text.count("\n", 0, match.start()) + 1,
                match["language"],
                title[1] if title else "",
                dedent(match["code"]),
                why["reason"] if why else "",
            )
        )
    return found


def run_page(blocks: list[Block], folder: Path) -> dict[str, Any]:
    """Run a page's blocks in a folder, and compare what follows them with what they print."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder), _searched(folder):
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.code, "utf-8")
            elif block.language == "yaml":
                assert isinstance(yaml.safe_load(block.code), dict), f"{block} is no YAML with keys"
            elif block.runs:
                said = after.code if after is not None and after.language == "text" and not after.left_out else ""
                _run(block, said, names)
    return names


def run_cells(cells: list[dict[str, Any]], name: str, folder: Path) -> dict[str, Any]:
    """Run a notebook's code cells in a folder, in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder), _searched(folder), contextlib.redirect_stdout(io.StringIO()):
        for number, cell in enumerate(cells, start=1):
            try:
                exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), names)
            except Exception as error:
                raise AssertionError(f"cell {number} of {name}: {error}") from error
    return names


def _run(block: Block, said: str, names: dict[str, Any]) -> None:
    expected = re.match(r"(agl|\w+Error): ", said)
    output, error = io.StringIO(), ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if block.language == "python":
                exec(compile(block.code, str(block), "exec"), names)
            else:
                for line in lines_of(block.code):
                    run_line(line)
        except SystemExit as stop:
            error = output.getvalue() if stop.code else ""
        except Exception as raised:
            if not expected:
                raise AssertionError(f"{block} failed: {raised}\n{output.getvalue()}") from raised
            error = f"{type(raised).__name__}: {raised}"
    printed = output.getvalue()
    assert bool(error) == bool(expected), f"{block} ended otherwise than the page says:\n{error or printed}"
    if said:
        assert holds(error or printed, said), f"{block} prints\n{error or printed}\nand the page says\n{said}"


def lines_of(code: str) -> list[str]:
    """The commands of a shell block: without comments, continued lines joined."""
    lines = [shlex.join(shlex.split(line, comments=True)) for line in code.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def run_line(line: str) -> None:
    """One command: ours in this process, others by bash. A status other than 0 is a SystemExit."""
    words = [found for word in shlex.split(line) for found in (sorted(glob.glob(word)) or [word])]
    if words[0] == "agl":
        from agl.cli import main

        _as_main(words, main)
    elif words[:2] == ["python", "-c"]:
        exec(compile(words[2], "python -c", "exec"), {"__name__": "__main__"})
    elif words[0] == "python":
        _as_main(words[1:], lambda: runpy.run_path(words[1], run_name="__main__"))
    else:
        subprocess.run(["bash", "-ec", line], check=True)


def _as_main(words: list[str], call: Any) -> None:
    before, width = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = words, "200"
    try:
        call()
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = before
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)


@contextlib.contextmanager
def _searched(folder: Path) -> Any:
    """Modules in the folder can be imported, and are forgotten afterwards."""
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def holds(printed: str, said: str) -> bool:
    """Whether a page's output is that of the program: the same words in order, `...` for any, figures about the same.

    >>> holds("SCC 0.143 ± 0.100  (3 runs)", "SCC 0.145 ± 0.100 (3 runs)")
    True
    >>> holds("a b c", "a ... c"), holds("a b c", "a c"), holds("SCC 0.143", "SCC 0.243")
    (True, False, False)
    """
    seen, wanted = _words(printed), _words(said)
    parts: list[list[str]] = [[]]
    for word in wanted:
        parts.append([]) if word == "..." else parts[-1].append(word)
    at = 0
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        places = range(at, len(seen) - len(part) + 1) if position else range(at, at + 1)
        fits = [p for p in places if all(map(_same, seen[p : p + len(part)], part)) and p + len(part) <= len(seen)]
        if not fits:
            return False
        at = (fits[-1] if last else fits[0]) + len(part)
    return at == len(seen) or not parts[-1]


def _words(text: str) -> list[str]:
    return re.sub(r"[┏┓┗┛┡┩┳┻╇┃│━─└┘┴┼├┤╞╡═+]+", " ", text).split()


def _same(seen: str, said: str) -> bool:
    if seen == said:
        return True
    if not (NUMBER.match(seen) and NUMBER.match(said)):
        return False
    a, b = (float(word.rstrip("%").replace(",", "")) for word in (seen, said))
    return abs(a - b) <= max(NEAR, abs(b) / 10)
