"""YAML from anywhere: what could fill the memory, never end, or be no value is a sentence."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agl.errors import UserError
from agl.trees import DEEPEST, LARGEST, MOST, parse_value, read_tree, read_yaml


def bomb(key: str, levels: int = 9) -> str:
    """A billion laughs: every level holds the one before nine times."""
    lines = [f"{key}:", '  a0: &a0 ["ha"]']
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels + 1)]
    return "\n".join(lines)


FILES = {
    "a bomb at the top": (bomb("data"), f"more than {MOST:,} values"),
    "a bomb in an argument": ("loss:\n  name: mse\n  x:\n    " + bomb("y").replace("\n", "\n    "), "more than"),
    "a bomb in merge keys": (
        "a0: &a0 {k: 1}\n" + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 10)),
        "more than",
    ),
    "an anchor in itself": ("loss: &x {name: mse, y: *x}", "the anchor 'x' contains itself"),
    "an anchor in its list": ("data: {sections: &s [a, *s]}", "the anchor 's' contains itself"),
    "a merge key into itself": ("a: &a {<<: *a}", "the anchor 'a' contains itself"),
    "3,000 lists": ("fold: " + "[" * 3000 + "]" * 3000, f"more than {DEEPEST} levels of nesting"),
    "3,000 open lists": ("fold: " + "[" * 3000, f"more than {DEEPEST} levels of nesting"),
    "3,000 mappings": ("fold: " + "{a: " * 3000 + "}" * 3000, f"more than {DEEPEST} levels of nesting"),
    "3,000 indents": ("\n".join(" " * i + "a:" for i in range(1000)), f"more than {DEEPEST} levels"),
    "3,000 dashes": ("fold:\n  " + "- " * 3000 + "1", f"more than {DEEPEST} levels"),
    "many values": ("data: {sections: [" + "a, " * MOST + "]}", f"more than {MOST:,} values"),
    "a large file": ("# " + "x" * LARGEST, "of at most 1,048,576 bytes"),
    "a number of 5,000 digits": ("seed: " + "9" * 5000, "not readable as YAML"),
    "a date that is none": ("seed: 2024-13-45", "not readable as YAML: month must be in 1..12"),
    "a bool that is none": ("seed: !!bool maybe", "not readable as YAML"),
    "a whole number that is none": ("seed: !!int many", "not readable as YAML"),
    "an empty whole number": ('seed: !!int ""', "not readable as YAML"),
    "a time that is none": ("seed: !!timestamp now", "not readable as YAML"),
    "a Python object": ("seed: !!python/object/apply:os.system [ls]", "not readable as YAML"),
    "a list as a key": ("? [a]\n: b", "not readable as YAML"),
    "a key twice": ("seed: 1\nseed: 2", "the key 'seed' comes twice. Keep one."),
    "two documents": ("a: 1\n---\nb: 2", "not readable as YAML"),
    "an unknown alias": ("a: *b", "undefined alias"),
    "control characters": ("a: \x07", "not readable as YAML"),
    "a list at the top": ("- a", "Expected a mapping of keys at the top"),
    "bytes": (b"\xff\xfe\x00", "not readable as YAML"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_config(kind: str, tmp_path: Path) -> None:
    content, part = FILES[kind]
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert part in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 3000, "levels of nesting"),
        ("&a [*a]", "contains itself"),
        ("9" * 5000, "Quote text"),
        ("2024-13-45", "Quote text"),
        ("!!bool maybe", "Quote text"),
        ("[1, 2", "Quote text"),
        ("{a: 1, a: 2}", "comes twice"),
    ],
)
def test_a_value_that_is_none(text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_value(text, f"seed={text}")
    assert part in str(caught.value)
    assert len(str(caught.value)) < 300


def test_anchors_and_nesting_in_measure_are_yaml_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: &a {name: mse}\nb: *a\nc: {<<: *a, k: 1}\nd: [[[[1]]]]\ne: 3e-5\n")
    expected = {"a": {"name": "mse"}, "b": {"name": "mse"}, "c": {"name": "mse", "k": 1}, "d": [[[[1]]]], "e": 3e-5}
    assert read_yaml(file) == expected
    depth = DEEPEST - 2
    file.write_text("a: " + "[" * depth + "]" * depth)
    assert str(read_yaml(file)["a"]) == "[" * depth + "]" * depth


def test_pipes_and_circles_are_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
    for name, part in (("pipe", "it is a pipe"), ("circle", "its links lead in a circle"), ("no", "no such file")):
        with pytest.raises(UserError, match=part):
            read_tree([tmp_path / f"{name}.yaml"])
