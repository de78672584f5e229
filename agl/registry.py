"""Components by name: finding them, checking what they are given, calling them.

A component is named by a short word from the table in `agl.builtins`, by `path/to/file.py:attribute`, or by
`package.module:attribute` where the module offers it (`agl.origins`). Nothing is registered and nothing inherited; a
file on disk is as good as a built-in.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agl import arguments
from agl.arguments import accepts_anything, check_arguments, check_complete, nested, parameters
from agl.builtins import WHERE
from agl.config import Component
from agl.errors import ConfigError, did_you_mean
from agl.origins import module_behind
from agl.places import regular_file

# Of what is not built in and could be of several kinds, how one of each is told from the others.
TELLING: dict[str, Callable[[Any], bool]] = {
    "selector": inspect.isclass,
    "estimator": lambda target: inspect.isclass(target) and hasattr(target, "fit") and not hasattr(target, "forward"),
}


def names(kind: str) -> list[str]:
    """The built-in components of one kind.

    >>> "listwise" in names("loss")
    True
    """
    return list(table(kind))


def table(kind: str) -> dict[str, str]:
    """Name and place of every built-in of one kind; plural words are understood."""
    singular = {key + "s": key for key in WHERE} | {"losses": "loss", "auxiliary": "gene_set"}
    key = singular.get(kind.replace("-", "_"), kind.replace("-", "_"))
    if key not in WHERE:
        raise ConfigError(f"Expected a kind of component, received {kind!r}.{did_you_mean(kind, WHERE)}")
    return WHERE[key]


def has(kind: str, name: str) -> bool:
    """Whether `name` is a built-in of this kind."""
    return name in WHERE[kind]


def which(kinds: Sequence[str], name: str) -> str:
    """The kind a name in a slot of these kinds belongs to.

    A class that has `fit` and is no module is an estimator, a class where gene sets and selectors may stand a selector.

    >>> which(("gene_set", "selector"), "dkgsb")
    'selector'
    """
    built_in = next((kind for kind in kinds if has(kind, name)), None)
    if built_in is not None or len(kinds) == 1:
        return built_in or kinds[0]
    known = {word: place for kind in kinds for word, place in WHERE[kind].items()}
    target = _find(kinds[0], name, known)
    return next((kind for kind in kinds if kind in TELLING and TELLING[kind](target)), kinds[0])


def is_estimator(model: Component) -> bool:
    """Whether what stands at `model` is fitted as a whole, instead of being trained step by step."""
    return which(("model", "estimator"), model.name) == "estimator"


def takes_sample(estimator: Any) -> bool:
    """Whether an estimator, or its class, is fitted on the whole panel, by `fit(sample)`, or on the primary genes."""
    return "sample" in parameters(estimator.fit)


def find(kind: str, name: str) -> Callable[..., Any]:
    """The function or class behind a name."""
    return _find(kind, name, WHERE[kind])


def _find(kind: str, name: str, known: dict[str, str]) -> Callable[..., Any]:
    place, what = known.get(name, name), kind.replace("_", " ")
    module_name, separator, attribute = place.rpartition(":")
    if not separator and name.endswith(".py"):
        raise ConfigError(f"Expected path/to/file.py:name for a {what} of your own, received {name!r}.")
    if not separator and Path(name).suffix in (".txt", ".json", ".csv"):
        raise ConfigError(f"Expected a {what}, received the file {name!r}. Write `file` and give path={name}.")
    if not separator:
        raise ConfigError(
            f"Unknown {what} {name!r}.{did_you_mean(name, known)} "
            "Your own: path/to/file.py:name or package.module:name."
        )
    module = importlib.import_module(module_name) if name in known else module_behind(module_name, attribute)
    found = getattr(module, attribute, None)
    if not callable(found):
        callables = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise ConfigError(
            f"Expected a function or class {attribute!r} in {module_name}, found none."
            f"{did_you_mean(attribute, callables)}"
        )
    return found


def build(kind: str, component: Component, *positional: Any, **given: Any) -> Any:
    """Call a component with what the framework gives and what the config says.

    Of `given`, only what the signature asks for is passed; of the config's arguments, an unknown one is an error.
    """
    target = find(kind, component.name)
    check_arguments(kind, component, target)
    check_complete(kind, component, target)
    accepted = parameters(target)
    offered = {key: value for key, value in given.items() if key in accepted}
    return target(*positional, **(offered | component.args))


def bind(kind: str, component: Component) -> Callable[..., Any]:
    """A function with the config's arguments filled in; the framework gives the rest at every call."""
    target = find(kind, component.name)
    check_arguments(kind, component, target)
    return functools.partial(target, **component.args)


def taking(function: Callable[..., Any], *offered: str) -> Callable[..., Any]:
    """The function, deaf to those of the offered keyword arguments that its signature does not have."""
    unwanted = {word for word in offered if word not in parameters(function)}
    if not unwanted or accepts_anything(function):
        return function

    @functools.wraps(function)
    def hearing(*args: Any, **given: Any) -> Any:
        return function(*args, **{word: value for word, value in given.items() if word not in unwanted})

    return hearing


def complete(kind: str, component: Component) -> Component:
    """The component with the defaults of its signature written out, so that equal runs have equal configs.

    Arguments that are components are completed in turn, and so is every mistake in them found here.

    >>> complete("gene_set", Component(name="top", prior="mean", k=5)).args["prior"]
    {'name': 'mean', 'normalise': 'none'}
    """
    target = find(kind, component.name)
    check_arguments(kind, component, target)
    check_complete(kind, component, target)
    own = {word: _completed(target, word, value) for word, value in component.args.items()}
    return Component.model_validate({"name": component.name, **defaults(kind, component.name), **own})


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The arguments a user may leave out, with what they then are.

    >>> defaults("sampler", "grouped")
    {'slides_per_batch': 4}
    """
    target = find(kind, name)
    return {word: _completed(target, word, value) for word, value in arguments.defaults(kind, target).items()}


def _completed(target: Callable[..., Any], word: str, value: Any) -> Any:
    """The value of an argument, completed where it is a component or a list of them."""
    slot = nested(target).get(word)
    optional = parameters(target)[word].default is None if word in parameters(target) else True
    if slot is None or (value is None and optional):
        return value
    if slot.many and not isinstance(value, str | list | tuple):
        raise ConfigError(f"Expected a list of names for {word}, received {value!r}.")
    items = [value] if isinstance(value, str) or not slot.many else list(value)
    found = []
    for item in items:
        component = as_component(item, word)
        found.append(complete(which(slot.kinds, component.name), component).model_dump(mode="json"))
    return found if slot.many else found[0]


def as_component(value: Any, word: str = "") -> Component:
    """A name or a mapping with a name as a component."""
    if isinstance(value, Component):
        return value
    if not isinstance(value, str) and not (isinstance(value, dict) and isinstance(value.get("name"), str)):
        raise ConfigError(
            f"Expected a name, or a name and its arguments such as {{name: ..., option: ...}}, "
            f"for {word or 'a component'}, received {value!r}."
        )
    return Component.model_validate(value)


def with_nested(kind: str, component: Component) -> Iterator[Component]:
    """The component, and those that are arguments of it, of those, and so on."""
    yield component
    for word, slot in nested(find(kind, component.name)).items():
        value = component.args.get(word)
        items = [] if value is None else [value] if isinstance(value, (str, dict)) else value
        for item in items:
            inner = as_component(item, word)
            yield from with_nested(which(slot.kinds, inner.name), inner)


def file_digests(components: Sequence[Component]) -> dict[str, str]:
    """sha256 of every file the components consist of or read (`path`, `folder`): their content is part of the run."""
    places = [component.name.rpartition(":")[0] for component in components]
    files = {place for place in places if place.endswith(".py")}
    files |= {str(component.args["path"]) for component in components if "path" in component.args}
    folders = [Path(str(component.args["folder"])) for component in components if "folder" in component.args]
    files |= {str(file) for folder in folders for file in folder.glob("*.csv") if file.is_file()}
    return {
        Path(file).name: hashlib.sha256(regular_file(file, "a file of a component").read_bytes()).hexdigest()
        for file in sorted(files)
    }
