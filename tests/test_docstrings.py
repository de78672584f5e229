"""What the sources say to readers and users: docstrings in one piece, messages in one voice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agl import errors
from agl.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("agl/**/*.py"), *ROOT.glob("strank/**/*.py")])
BROKEN = re.compile(r'"[ \t]*\n[ \t]*"')  # a string cut in two and glued by its quotes


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""


KINDS = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)}


def messages(source: str) -> Iterator[str]:
    """The beginning of every text that a `UserError` or one of its kinds is raised with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            text = node.args[0]
            while isinstance(text, ast.BinOp):
                text = text.left
            first = text.values[0] if isinstance(text, ast.JoinedStr) else text
            if isinstance(first, ast.Constant):
                yield str(first.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_is_broken_by_quotes(path: Path) -> None:
    assert [doc for doc in docstrings(path.read_text()) if BROKEN.search(doc)] == []


def test_a_broken_docstring_is_found() -> None:
    source = 'def f():\n    """All of them, "\n    "or none."""\n\ndef g():\n    """As "one" and\n    "two"."""\n'
    assert [bool(BROKEN.search(doc)) for doc in docstrings(source)] == [False, True, False]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_begin_with_a_capital(path: Path) -> None:
    assert [text for text in messages(path.read_text()) if text[:1].islower()] == []


def test_a_message_in_lower_case_is_found() -> None:
    source = "raise UserError(f'expected {x}')\nraise UserError('Expected y' + z)\nraise UserError(f'{x}')"
    assert list(messages(source)) == ["expected ", "Expected y"]
