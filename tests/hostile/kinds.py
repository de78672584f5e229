"""Hostile things by kind, whatever they stand for: files, paths, words, numbers, text."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from tests.hostile.stage import MARK


class Attack:
    """Unpickled, it would leave a mark."""

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {MARK}",)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


# What may lie in the place of a file; none of it may be waited on, and none is what was asked for.
NO_FILES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a circle of links": _circle,
    "a link to nothing": lambda path: path.symlink_to("nothing at all"),
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a silent device": lambda path: path.symlink_to("/dev/null"),
}

DAMAGED: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,
    "a byte": lambda path: path.write_bytes(b"\x00") and None,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 40) and None,
    "text": lambda path: path.write_text("what is this?\n") and None,
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Attack())) and None,
    "a Git LFS pointer": lambda path: (
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n") and None
    ),
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>") and None,
    "a terabyte of holes": _holes,
    "a zip file": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)) and None,
}

# Words as they may stand where a name is wanted.
WORDS: dict[str, str] = {
    "a function of the system": "os:system",
    "a function of Python": "builtins:exec",
    "a module of ours that is no component": "agl.runs.files:write_text",
    "what a module has from elsewhere": "agl.genes.sets:Path",
    "a path and a colon": "../../etc/passwd:foo",
    "a colon alone": ":",
    "no module": ":foo",
    "no attribute": "mine.py:",
    "a file without a name": "mine.py",
    "a file that is not there": "nowhere.py:mine",
    "a pipe": "pipe.py:mine",
    "a folder": "folder.py:mine",
    "a circle of links": "circle.py:mine",
    "a file that is no Python": "broken.py:mine",
    "a file that ends the interpreter": "exits.py:mine",
    "a file that calls itself for ever": "deep.py:mine",
    "a file that raises": "raises.py:mine",
    "a file of bytes": "bytes.py:mine",
    "an attribute that is a number": "mine.py:NUMBER",
    "an attribute that is not there": "mine.py:theirs",
    "a private attribute": "mine.py:__builtins__",
    "a user that is none": "~nobody-here/mine.py:mine",
    "a list": "[a, b]",
    "a number": "3",
    "nothing": "null",
    "an empty word": '""',
    "a mapping without a name": "{k: 3}",
    "a mapping with a name that is none": "{name: [1]}",
    "a tag": "<script>alert(1)</script>",
    "a format": "%s%n{0}",
    "a new line": '"a\\nb"',
    "a NUL": '"a\\0b"',
    "an escape": '"\\e]0;owned\\a"',
    "a pictogram": "🧬",
    "300 letters": "x" * 300,
    "a statement of SQL": "'; DROP TABLE studies; --",
}


def write_modules(work: Path) -> None:
    """The files that WORDS name."""
    (work / "mine.py").write_text("NUMBER = 3\ndef mine(*args, **options): return None\n")
    (work / "broken.py").write_text("def mine(:\n")
    (work / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (work / "deep.py").write_text("def mine(): return mine()\nmine()\n")
    (work / "raises.py").write_text("raise BaseException(3)\n")
    (work / "bytes.py").write_bytes(b"\x00\xff\xfe")
    (work / "folder.py").mkdir()
    os.mkfifo(work / "pipe.py")
    (work / "circle.py").symlink_to("circle.py")


# Values as they may stand where another kind of value is wanted.
VALUES: dict[str, str] = {
    "a word": "many",
    "a share": "0.3",
    "a negative number": "-7",
    "a huge number": "9" * 30,
    "not a number": ".nan",
    "infinity": "-.inf",
    "a list": "[1, a]",
    "a mapping": "{a: 1}",
    "nothing": "null",
    "an empty word": '""',
    "a truth": "true",
    "a date": "2024-02-03",
}
