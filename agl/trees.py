"""Settings before they are validated: YAML files and `key=value` words as one tree, the words last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agl.errors import ConfigError
from agl.places import regular_file, shortened

LARGEST = 1 << 20  # bytes of a YAML file: nobody writes more by hand
DEEPEST = 60  # levels of nesting
MOST = 20_000  # values, those that aliases repeat counted as often as they are repeated
STUDIES = {"axes": "grid", "search": "search", "methods": "synthetic"}  # what a study's file holds, and its command


def read_tree(files_and_overrides: Sequence[str | Path], *, command: str = "train") -> dict[str, Any]:
    """What YAML files and `key=value` words say, the words last; not validated. Another command's file is an error."""
    tree: dict[str, Any] = {}
    words = [str(item) for item in files_and_overrides]
    for path in (word for word in words if not is_override(word)):
        if Path(path).is_dir() or not (Path(path).suffix or Path(path).exists()):
            raise ConfigError(
                f"Expected a config file or key=value, received {shortened(path, 200)}; of a folder of sections write "
                f"data.root={path[:200]}."
            )
        overlay = read_yaml(path)
        for key, other in STUDIES.items():
            if key in overlay and other != command:
                raise ConfigError(
                    f"{path} is a study (it has `{key}:`), not the config of one run. Use `agl {other} {path}`."
                )
        merge(tree, overlay)
    for word in filter(is_override, words):
        apply_override(tree, word)
    return tree


def is_override(word: str) -> bool:
    """`a.b=value`: dotted lower-case names, then an equals sign."""
    return re.match(r"^[A-Za-z_][\w.]*=", word) is not None


def apply_override(tree: dict[str, Any], word: str) -> None:
    """Set one dotted key. `loss=mse` replaces the component, `loss.target=log1p` adds to it."""
    if not is_override(word):
        raise ConfigError(
            f"Expected an override like training.epochs=50, received {word!r}. Write key=value without spaces."
        )
    path, _, text = word.partition("=")
    *parents, last = path.split(".")
    node = tree
    for i, key in enumerate(parents):
        child = node.get(key)
        if child is None:
            child = {}
        elif isinstance(child, str):
            child = {"name": child}
        elif not isinstance(child, Mapping):
            raise ConfigError(
                f"Expected a section at {'.'.join(parents[: i + 1])}, found {child!r}; {word!r} cannot go inside it."
            )
        node[key] = dict(child)
        node = node[key]
    node[last] = parse_value(text, word)


def overrides(key: str, value: Any) -> list[str]:
    """`loss: {name: pearson, pooled: true}` and `anything: {a.b: 1}` as dotted words.

    >>> overrides("loss", {"name": "listwise", "target": "log1p"})
    ['loss="listwise"', 'loss.target="log1p"']
    >>> overrides("protocol", {"split.name": "spatial_blocks", "seed": 1})
    ['split.name="spatial_blocks"', 'seed=1']
    """
    if not isinstance(value, Mapping):
        return [f"{key}={written(value)}"]
    if "name" in value:
        rest = [f"{key}.{k}={written(v)}" for k, v in value.items() if k != "name"]
        return [f"{key}={written(value['name'])}", *rest]
    return [word for k, v in value.items() for word in overrides(k, v)]


def flat_lists(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, down to the first value that is no mapping.

    >>> flat_lists({"model": {"penalty": [1, 2]}, "loss": ["mse"]})
    {'model.penalty': [1, 2], 'loss': ['mse']}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat_lists(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def merge(tree: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Lay a YAML tree over another. A component that is named anew starts with no arguments."""
    for key, value in overlay.items():
        old = tree.get(key)
        old = {"name": old} if isinstance(old, str) and isinstance(value, Mapping) else old
        renamed = (
            isinstance(value, Mapping)
            and "name" in value
            and isinstance(old, Mapping)
            and old.get("name") != value["name"]
        )
        if isinstance(value, Mapping) and isinstance(old, dict) and not renamed:
            tree[key] = old
            merge(old, value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; of a component its name. None where there is none.

    >>> value_at({"loss": {"name": "mse"}, "training": {"epochs": 5}}, "loss")
    'mse'
    """
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node["name"] if isinstance(node, Mapping) and "name" in node else node


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping; `3e-5` is a number here."""
    file = regular_file(path, "a config file or key=value")
    if file.stat().st_size > LARGEST:
        raise ConfigError(
            f"Expected a config of at most {LARGEST:,} bytes, received {file.stat().st_size:,} in {file}."
        )
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except UNREADABLE as error:
        raise ConfigError(f"{file} is not readable as YAML: {_where(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"Expected a mapping of keys at the top of {file}, found {type(tree).__name__}.")
    return tree


def _where(error: Exception) -> str:
    """What is wrong, and in which line and column."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split()) or type(error).__name__
    problem = getattr(error, "problem", None) or "syntax error"
    advice = "Mend the indentation, colon or bracket there."
    if isinstance(error, _Refused):
        advice = "Keep one." if "twice" in problem else "Write less."
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}. {advice}"


def parse_value(text: str, word: str = "") -> Any:
    """A value as YAML reads it, with `3e-5` a number."""
    try:
        return yaml.load(text, Loader=_Loader) if text else ""
    except _Refused as error:
        raise ConfigError(
            f"Expected a YAML value after '=', received {shortened(word or text)}: {error.problem}."
        ) from None
    except UNREADABLE:
        raise ConfigError(
            f"Expected a YAML value after '=', received {shortened(word or text)}. Quote text with special characters."
        ) from None


def written(value: Any) -> str:
    """A value as `parse_value` reads it: JSON, with letters as they are and only what YAML could not read escaped.

    >>> written({"name": "größer"}), parse_value(written(["\U0001f9ec", "a\u2028b"])) == ["\U0001f9ec", "a\u2028b"]
    ('{"name": "größer"}', True)
    """
    text = json.dumps(value, ensure_ascii=False)
    return _UNREADABLE_LETTERS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class _Refused(yaml.MarkedYAMLError):
    """YAML that says something, but nothing that is wanted here."""


# JSON leaves these as they are; YAML takes them for ends of lines, or not at all.
_UNREADABLE_LETTERS = re.compile(f"{yaml.reader.Reader.NON_PRINTABLE.pattern}|[\x85\u2028\u2029\ufeff]")

# PyYAML's constructors raise all of these, for a date that does not exist, a number of 5,000 digits, `!!bool maybe`.
UNREADABLE = (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 asks for a dot in floats; people write 3e-5. And it lets the last of two equal keys win, unseen.

    An alias stands for all that its anchor holds, so a few lines can stand for billions of values, or for themselves.
    Values are counted and levels are limited while the text is read, before anything is built from it.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.depth = self.count = 0
        self.sizes: dict[str, int] = {}  # of finished anchors

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        mark, before = event.start_mark, self.count
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.sizes:
                raise _Refused(problem=f"the anchor {event.anchor!r} contains itself", problem_mark=mark)
            self.count += self.sizes.get(str(event.anchor), 0)
        self.count += 1
        self.depth += 1
        if self.count > MOST or self.depth > DEEPEST:
            what = f"more than {MOST:,} values" if self.count > MOST else f"more than {DEEPEST} levels of nesting"
            raise _Refused(problem=what, problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self.sizes[event.anchor] = self.count - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise _Refused(problem=f"the key {key.value!r} comes twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
