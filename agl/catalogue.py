"""What there is to choose from: every built-in component with its arguments and their defaults."""

from __future__ import annotations

import inspect
from typing import Any

from agl import registry
from agl.arguments import parameters
from agl.builtins import GIVEN, WHERE


def catalogue(kind: str) -> dict[str, dict[str, Any]]:
    """Name -> summary and arguments a user may set."""
    kinds = ["gene_set", "selector"] if kind in ("auxiliary", "genes") else [_singular(kind)]
    return {name: _entry(each, name) for each in kinds for name in registry.table(each)}


def _singular(kind: str) -> str:
    for key in WHERE:
        if registry.table(kind) is WHERE[key]:
            return key
    return kind


def _entry(kind: str, name: str) -> dict[str, Any]:
    target = registry.find(kind, name)
    summary = (inspect.getdoc(target) or "").split("\n\n")[0].replace("\n", " ")
    arguments = {
        word: "required" if parameter.default is inspect.Parameter.empty else parameter.default
        for word, parameter in parameters(target).items()
        if word not in GIVEN[kind]
    }
    return {"summary": summary, "arguments": arguments}
