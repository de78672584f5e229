"""Study folders whose journal is damaged, and study files that ask for what cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.stage import QUICK, Case

TREES: dict[str, object] = {
    "no axes": {"seed": 1},
    "axes that are a list": {"axes": [1, 2]},
    "axes that are a word": {"axes": "seed"},
    "an axis of a mapping": {"axes": {"seed": {"a": 1}}},
    "an axis of mappings of mappings": {"axes": {"seed": [{"a": {"b": {"c": 1}}}]}},
    "an axis that is a number": {"axes": {3: [1]}},
    "an axis of no key": {"axes": {"": [1]}},
    "an axis of dots": {"axes": {"...": [1]}},
    "an axis with a space": {"axes": {"a b": [1]}},
    "an axis of names outside": {"axes": {"name": ["../../x"]}},
    "an axis of outputs": {"axes": {"output": ["a\nb"]}},
    "a value that is not allowed": {"axes": {"seed": [1, "x"]}},
    "a value that is nothing": {"axes": {"seed": [None]}},
    "a skip that is a word": {"axes": {"seed": [1]}, "skip": "all"},
    "a skip of all": {"axes": {"seed": [1]}, "skip": [{"seed": 1}]},
    "a skip of another axis": {"axes": {"seed": [1]}, "skip": [{"fold": 1}]},
    "a skip of nothing": {"axes": {"seed": [1]}, "skip": [{}]},
    "a quick that is a list": {"axes": {"seed": [1]}, "quick": [1]},
}
SEARCHES: dict[str, object] = {
    "no parameters": {"trials": 3},
    "parameters that are a list": {"parameters": [1]},
    "an empty range": {"parameters": {"seed": {}}},
    "a range upside down": {"parameters": {"seed": {"low": 9, "high": 1}}},
    "a range of words": {"parameters": {"seed": {"low": "a", "high": "b"}}},
    "a range that is not finite": {"parameters": {"training.learning_rate": {"low": 1e-3, "high": float("inf")}}},
    "a range of nothing": {"parameters": {"seed": {"low": None, "high": 3}}},
    "a range beyond 64 bits": {"parameters": {"seed": {"low": 0, "high": 10**30}}},
    "a logarithm of 0": {"parameters": {"seed": {"low": 0, "high": 9, "log": True}}},
    "a step of 0": {"parameters": {"seed": {"low": 1, "high": 9, "step": 0}}},
    "no choices": {"parameters": {"seed": []}},
    "an unknown key": {"parameters": {"sead": [1, 2]}},
    "a key with a quote": {"parameters": {"se'ed": [1, 2]}},
    "no trials": {"parameters": {"seed": [1, 2]}, "trials": 0},
    "a billion trials": {"parameters": {"seed": [1, 2]}, "trials": 10**9},
    "an objective on test spots": {"parameters": {"seed": [1, 2]}, "objective": "scc"},
    "an objective that is a number": {"parameters": {"seed": [1, 2]}, "objective": 3},
    "an objective that is nothing": {"parameters": {"seed": [1, 2]}, "objective": None},
    "no objectives": {"parameters": {"seed": [1, 2]}, "objective": []},
    "a sampler that is none": {"parameters": {"seed": [1, 2]}, "sampler": "magic"},
    "a fold that is none": {"parameters": {"seed": [1, 2]}, "folds": [99]},
    "a huge seed": {"parameters": {"data.min_counts": [1, 2]}, "seed": 10**40, "trials": 1},
    "a word": "everything",
    "a list": [1],
}
LINES: dict[str, bytes] = {
    "half a line": b'{"op_code": 0, "worker_id": "x", "stu',
    "a line of another program": b'{"event": 3}\n',
    "a list": b"[1]\n",
    "an unknown operation": b'{"op_code": 99, "worker_id": "x"}\n',
    "a study that is a number": b'{"op_code": 0, "worker_id": "x", "study_name": 3, "directions": [2]}\n',
    "a trial of no study": b'{"op_code": 4, "worker_id": "x", "study_id": 77, "datetime_start": "now"}\n',
    "nesting": b"[" * 100_000 + b"\n",
    "a NUL": b"\x00" * 4096,
}
STRANGERS = ("a study that is a number", "a trial of no study")  # of no concern to another study
READERS = {
    "status": ("study", "status", "--storage", "journal:it/study.journal"),
    "worker": ("worker", "--study", "grid", "--storage", "journal:it/study.journal"),
    "repair": ("study", "repair", "--storage", "journal:it/study.journal"),
    "grid": ("grid", "{study}", "--storage", "journal:it/study.journal"),
}


def cases() -> Iterator[Case]:
    """Journals for all who read them, then files of grids and searches."""
    for reader, words in READERS.items():
        for kind, make in {**NO_FILES, **DAMAGED}.items():
            fine = reader == "grid" and kind in ("nothing", "empty", "a link to nothing")
            yield Case("journal", f"{kind}, {reader}", words, _replacing(make), fine=fine)
        for kind, line in LINES.items():
            fine = kind == "half a line" or (reader == "grid" and kind in STRANGERS)
            yield Case("journal", f"{kind} alone, {reader}", words, _replacing(_bytes(line)), fine=fine)
            yield Case("journal", f"{kind} at the end, {reader}", words, _appending(line), copies=("grid",), fine=True)
    for kind, tree in TREES.items():
        yield Case("study", f"grid with {kind}", ("grid", "s.yaml", *QUICK), _file(tree), fine="quick" in kind)
        yield Case("study", f"quick grid with {kind}", ("grid", "s.yaml", "--quick", *QUICK), _file(tree))
    for kind, tree in SEARCHES.items():
        fine = kind == "a huge seed"
        yield Case("study", f"search with {kind}", ("search", "s.yaml", *QUICK), _file({"search": tree}), fine=fine)


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _replacing(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        (work / "it").mkdir()
        make(work / "it" / "study.journal")

    return prepare


def _appending(line: bytes) -> Callable[[Path], None]:
    """After the journal of a finished study."""

    def prepare(work: Path) -> None:
        (work / "it").mkdir()
        os.replace(work / "grid" / "study.journal", work / "it" / "study.journal")
        with (work / "it" / "study.journal").open("ab") as file:
            file.write(line)

    return prepare


def _file(tree: object) -> Callable[[Path], None]:
    """JSON is YAML; keys that are no words are written as they are."""

    def prepare(work: Path) -> None:
        import yaml

        text = yaml.safe_dump(tree) if "3:" in str(tree) else json.dumps(tree).replace("Infinity", ".inf")
        (work / "s.yaml").write_text(text)

    return prepare
