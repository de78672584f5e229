"""YAML that is large, deep, circular or no value, wherever YAML is read: files of every command, and single words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.stage import MARK, QUICK, Case


def bomb(key: str) -> str:
    """Nine levels of nine aliases each: 387 million words."""
    levels = [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join([f"{key}:", '  a0: &a0 ["ha"]', *levels])


TEXTS: dict[str, str | bytes] = {
    "a bomb at the top": bomb("seed"),
    "a bomb below the top": "loss:\n  name: mse\n  x:\n    " + bomb("y").replace("\n", "\n    "),
    "a bomb of merged keys": "b0: &b0 {k: 1}\n"
    + "\n".join(f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}]}}" for i in range(1, 12)),
    "an anchor in itself": "data: &x {root: a, simulate: *x}",
    "an anchor in its list": "data: {sections: &s [a, *s]}",
    "3,000 levels of lists": "seed: " + "[" * 3000 + "]" * 3000,
    "3,000 levels left open": "seed: " + "[" * 3000,
    "3,000 levels of keys": "seed: " + "{a: " * 3000 + "1" + "}" * 3000,
    "100,000 values": "data: {sections: [" + "a, " * 100_000 + "]}",
    "20 megabytes": "# " + "x" * (20 << 20),
    "5,000 digits": "seed: " + "9" * 5000,
    "a date that is none": "seed: 2024-13-45",
    "a bool that is none": "seed: !!bool maybe",
    "an empty number": 'seed: !!int ""',
    "a Python object": f"seed: !!python/object/apply:os.system [touch {MARK}]",
    "a Python name": "seed: !!python/name:os.system",
    "an unknown tag": "seed: !mine 3",
    "a list as a key": "? [a]\n: b",
    "a number as a key": "3: b",
    "nothing as a key": "null: b",
    "a truth as a key": "true: b",
    "a key twice": "seed: 1\nseed: 2",
    "an unknown key": "sead: 1",
    "two documents": "seed: 1\n---\nseed: 2",
    "an alias of nothing": "seed: *nothing",
    "a list at the top": "- seed",
    "a word at the top": "seed",
    "tabs": "data:\n\troot: a",
    "a control character": "seed: \x07",
    "bytes": b"\xff\xfe\x00\x01",
    "UTF-16": "seed: 1".encode("utf-16"),
    "a NUL": b"seed: \x00",
    "JSON cut short": '{"seed": ',
}
COMMANDS = {
    "train": ("train", "config.yaml", *QUICK),
    "grid": ("grid", "config.yaml", *QUICK),
    "search": ("search", "config.yaml", *QUICK),
    "synthetic": ("synthetic", "config.yaml"),
}


def cases() -> Iterator[Case]:
    """Every text for `train`; those that the reader must stop for the other commands, too."""
    for command, words in COMMANDS.items():
        for name, text in TEXTS.items():
            if command == "train" or "bomb" in name or "levels" in name or "itself" in name or "key" in name:
                yield Case("YAML", f"{name}, {command}", words, _writer(text), part="config|yaml|key|expected")
    for name, text in TEXTS.items():
        value = text.removeprefix("seed: ") if isinstance(text, str) and text.startswith("seed: ") else None
        if value is not None and len(value) < 100_000 and "\x00" not in value:
            yield Case("YAML", f"{name}, as a word", ("train", f"seed={value}", *QUICK), part="seed")


def _writer(text: str | bytes):
    content = text if isinstance(text, bytes) else text.encode()
    return lambda work: Path(work, "config.yaml").write_bytes(content)
