"""The keys of a config as tables, read from its source: name, default, and the comment beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "agl" / "config.py"
PLACE = re.compile(r"^<!-- keys of (\w+) -->$", re.MULTILINE)


def on_page_markdown(text: str, **_: Any) -> str:
    """Called by MkDocs with a page's text: `<!-- keys of Training -->` becomes a table."""
    return PLACE.sub(lambda found: table_of(found[1]), text)


def table_of(name: str) -> str:
    """The keys of one part of the config."""
    source = SOURCE.read_text("utf-8")
    lines = source.splitlines()
    part = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == name)
    fields = [node for node in part.body if isinstance(node, ast.AnnAssign) and node.value is not None]
    rows = [f"| `{ast.unparse(f.target)}` | {_default(f.value)} | {_comment(lines, f)} |" for f in fields]
    return "\n".join(["| key | default | |", "|---|---|---|", *rows])


def _default(value: ast.expr | None) -> str:
    """As one writes it in a config; parts of the config have their own table."""
    if isinstance(value, ast.Call):
        given = {each.arg: each.value for each in value.keywords}
        if isinstance(value.func, ast.Name) and value.func.id == "Component":
            value = given["name"]
        elif isinstance(value.func, ast.Name) and value.func.id == "Field" and value.args:
            value = value.args[0]
        else:
            return ""
    words = {"None": "null", "True": "true", "False": "false", "()": "[]"}
    text = ast.unparse(value) if value is not None else ""
    return f"`{words.get(text, text.strip(chr(39)))}`"


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    """The comment at the end of the field, and on lines of its own right after it."""
    last = int(field.end_lineno or field.lineno)
    tail = lines[last - 1][int(field.end_col_offset or 0) :]
    found = [tail.partition("#")[2].strip()]
    if len(lines[field.lineno - 1 : last]) > 1:
        found += [line.partition("#")[2].strip() for line in lines[field.lineno - 1 : last - 1]]
    while found[0] and last < len(lines) and lines[last].strip().startswith("#"):
        found.append(lines[last].strip(" #"))
        last += 1
    return " ".join(filter(None, found)).replace("|", "or")
