"""`--help` answers what a command takes, without importing anything to find out."""

from __future__ import annotations

import inspect
import re


def test_the_help_of_simulate_lists_its_options_with_their_defaults(agl) -> None:
    from agl.data.simulate.task import simulate

    status, out, _ = agl("simulate", "--help")
    assert status == 0
    shown = dict(re.findall(r"(\w+)=([\w.]+)", out))
    options = {word: p.default for word, p in inspect.signature(simulate).parameters.items() if word != "out"}
    assert shown == {"key": "value"} | {word: str(value).lower() for word, value in options.items()}


def test_the_version_is_the_distributions(agl) -> None:
    from importlib.metadata import version

    assert agl("--version") == (0, f"agl {version('agl')}\n", "")
    status, out, _ = agl("--help")
    assert status == 0
    assert "--version" in out
    assert "to rank gene expression across a tissue image?" in " ".join(out.split())
