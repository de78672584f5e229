"""Names of runs and studies that users choose: right to the letter, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.stage import QUICK, Case

REFUSED = {
    "leads out": "../../x",
    "leads out and back": "a/../../x",
    "two dots": "..",
    "from the root": "/tmp/agl-hostile-x",
    "empty": "",
    "an empty part": "a//b",
    "a dot": ".",
    "a new line": "a\\nb",
    "a NUL": "a\\0b",
    "an escape": "a\\e[31mb",
    "300 letters": "x" * 300,
    "200 pictograms": "🧬" * 200,
}
RIGHT = {
    "quotes": 'it\'s \\"it\\"',
    "a tag": "<script>alert(1)<",
    "a percent sign": "50 % %s %n",
    "braces": "{0} {sections",
    "a pictogram": "🧬👨‍👩‍👧",
    "two words and a slash": "a b/c d",
    "SQL": "'; DROP TABLE studies; --",
    "an ampersand": "a&amp;b&lt;",
    "a dollar": "$HOME `id` $(id)",
    "a star": "*?[a]",
    "looks like a flag": "--yes",
    "looks like an override": "a=b",
    "a back slash": "a\\\\b",
    "250 letters": "x" * 250,
}


def cases() -> Iterator[Case]:
    """Of a run, on an axis of a grid, of a study, of a search and of the synthetic study."""
    axis = "fold: 0\naxes:\n  loss: [mse]\n  name: [plain, {name}]\n"
    search = "search: {parameters: {data.min_counts: [1, 2]}, trials: 1}\n"
    for kinds, fine in ((REFUSED, False), (RIGHT, True)):
        for kind, name in kinds.items():
            quoted = f'"{name}"'
            part = "" if fine else "name"
            yield Case("name", f"{kind}, of a run", ("train", *QUICK, f"name={quoted}"), part=part, only=fine)
            grid = axis.replace("{name}", quoted)
            yield Case("name", f"{kind}, on an axis", ("grid", "s.yaml", *QUICK), _file(grid), part=part, only=fine)
            study = f"name: {quoted}\naxes: {{seed: [0]}}\n"
            yield Case("name", f"{kind}, of a grid", ("grid", "s.yaml", *QUICK), _file(study), part=part, only=fine)
            found = f"name: {quoted}\n{search}"
            yield Case("name", f"{kind}, of a search", ("search", "s.yaml", *QUICK), _file(found), part=part, only=fine)
            if not fine:
                yield Case("name", f"{kind}, synthetic", ("synthetic", f"name={quoted}"), part=part)
                yield Case("name", f"{kind}, of a status", ("study", "status", _plain(name)), part="name")


def _plain(name: str) -> str:
    return name.replace("\\n", "\n").replace("\\e", "\x1b").replace("\\0", "0")


def _file(text: str):
    return lambda work: Path(work, "s.yaml").write_text(text)
