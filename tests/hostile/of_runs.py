"""Run folders with files that are damaged, missing, pipes or code: for every command that reads runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.hostile.kinds import DAMAGED, NO_FILES, Attack
from tests.hostile.stage import Case


def _objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, scores=np.array([Attack()], dtype=object), allow_pickle=True)
    return stream.getvalue()


WRONG: dict[str, dict[str, bytes]] = {
    "config.yaml": {
        "an unknown key": b"sead: 1\n",
        "a list": b"[1]\n",
        "another run's": b"seed: 7\n",
        "a name outside": b"name: ../../x\n",
    },
    "result.json": {
        "a list": b"[1]",
        "no scores": b"{}",
        "words": b'{"scc": "high", "pcc": "low"}',
        "5,000 digits": b'{"scc": ' + b"9" * 5000 + b"}",
    },
    "provenance.json": {"a list": b"[1]", "no data": b"{}", "words": b'{"data": "x", "split": 3}'},
    "per_gene.csv": {
        "another table": b"a,b\n1,2\n",
        "only a header": b"slide,gene,spots,scc,pcc,mean_count,zero_fraction\n",
        "words": b"slide,gene,spots,scc,pcc,mean_count,zero_fraction\nS,G,x,x,x,x,x\n",
    },
    "predictions.npz": {"objects": _objects(), "cut short": _objects()[:60]},
    "panel.csv": {"another table": b"a,b\n1,2\n", "words": b"gene,role,weight\nA,primary,much\n"},
    "history.jsonl": {"a list": b"[1]\n", "words": b'{"epoch": "x"}\n', "nesting": b"[" * 100_000},
    "checkpoints/best.safetensors": {"a long header": b"\xff" * 8 + b"{}", "no header": b"\x02" + bytes(7) + b"{}"},
}
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # the command, and the files it reads
    "table": (("table", "runs"), ("config.yaml", "result.json", "provenance.json")),
    "evaluate": (
        ("evaluate", "run"),
        ("config.yaml", "result.json", "provenance.json", "checkpoints/best.safetensors"),
    ),
    "predict": (("predict", "run", "P1S1"), ("config.yaml", "provenance.json", "checkpoints/best.safetensors")),
    "report": (
        ("report", "runs", "--section", "scores", "--section", "provenance", "--section", "maps"),
        (
            "config.yaml",
            "result.json",
            "provenance.json",
            "per_gene.csv",
            "predictions.npz",
            "panel.csv",
            "history.jsonl",
        ),
    ),
}


def cases() -> Iterator[Case]:
    """One file of one run is hostile."""
    for command, (words, files) in COMMANDS.items():
        for name in files:
            makes = {**NO_FILES, **DAMAGED, **{kind: _bytes(text) for kind, text in WRONG[name].items()}}
            for kind, make in makes.items():
                copies = ("runs",) if "runs" in words else ("run",)
                # A report says what is missing and goes on; a table leaves unfinished runs out.
                fine = command in ("table", "report") or (command, name) == ("evaluate", "result.json")
                yield Case(
                    "run", f"{name} is {kind}, {command}", words, _breaking(name, make), copies=copies, fine=fine
                )


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _breaking(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        [folder] = work.glob("runs/*mlp*") if (work / "runs").is_dir() else [work / "run"]
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return prepare
