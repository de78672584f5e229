"""Components by name: finding them, and whether the arguments given to them fit.

A component is named by a short word from the table in `agl.builtins`, by `package.module:attribute`, or by
`path/to/file.py:attribute`. Nothing is registered and nothing inherited; a file on disk is as good as a built-in.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from agl.blame import PLUGIN
from agl.builtins import WHERE
from agl.config import Component
from agl.errors import UserError, did_you_mean
from agl.values import wanted

# What the framework gives and a config cannot: data, sizes, places. A seed may be given by either.
FRAMEWORK = {
    "scores", "counts", "slides", "library_size", "generator", "n_genes", "n_features", "training", "candidates",
    "primary", "spots", "root", "seed", "rng", "batch_size", "validation_fraction", "validation_unit", "problem",
    "inner_batches", "outer_batch", "settings", "optimizer", "warm", "inner_optimizer", "inner_lr",
}  # fmt: skip


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
        raise UserError(f"Expected a kind of component, received {kind!r}.{did_you_mean(kind, WHERE)}")
    return WHERE[key]


def has(kind: str, name: str) -> bool:
    """Whether `name` is a built-in of this kind."""
    return name in WHERE[kind]


def is_a(kind: str, name: str) -> bool:
    """Whether a name, or the thing in a file it points to, is of this kind.

    Of things that are not built in, a class is a selector and a function a gene set.
    """
    if has(kind, name) or ":" not in name:
        return has(kind, name)
    return kind == "selector" and inspect.isclass(find(kind, name))


def find(kind: str, name: str) -> Callable[..., Any]:
    """The function or class behind a name."""
    place = WHERE[kind].get(name, name)
    module_name, separator, attribute = place.rpartition(":")
    if not separator and name.endswith(".py"):
        raise UserError(f"Expected path/to/file.py:name for a {kind.replace('_', ' ')} of your own, received {name!r}.")
    if not separator and Path(name).suffix in (".txt", ".json", ".csv"):
        raise UserError(
            f"Expected a {kind.replace('_', ' ')}, received the file {name!r}. Write `file` and give path={name}."
        )
    if not separator:
        raise UserError(
            f"Unknown {kind.replace('_', ' ')} {name!r}.{did_you_mean(name, WHERE[kind])} "
            "Your own: path/to/file.py:name or package.module:name."
        )
    module = _module_from_file(module_name) if module_name.endswith(".py") else _module(module_name)
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise UserError(
            f"Expected a function or class {attribute!r} in {module_name}, found none.{did_you_mean(attribute, known)}"
        )
    return found


def build(kind: str, component: Component, *positional: Any, **given: Any) -> Any:
    """Call a component with what the framework gives and what the config says.

    Of `given`, only what the signature asks for is passed; of the config's arguments, an unknown one is an error.
    """
    target = find(kind, component.name)
    check_arguments(kind, component, target)
    accepted = parameters(target)
    offered = {key: value for key, value in given.items() if key in accepted}
    return target(*positional, **(offered | component.args))


def bind(kind: str, component: Component) -> Callable[..., Any]:
    """A function with the config's arguments filled in; the framework gives the rest at every call."""
    target = find(kind, component.name)
    check_arguments(kind, component, target)
    return functools.partial(target, **component.args)


def check_complete(kind: str, component: Component, target: Callable[..., Any]) -> None:
    """Every argument without a default that only the user can give must be there."""
    for word, parameter in parameters(target).items():
        wanted = parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        if wanted and word not in FRAMEWORK and word not in component.args:
            raise UserError(f"The {kind.replace('_', ' ')} {component.name!r} needs {word}=..., received none.")


def taking(function: Callable[..., Any], *offered: str) -> Callable[..., Any]:
    """The function, deaf to those of the offered keyword arguments that its signature does not have."""
    unwanted = {word for word in offered if word not in parameters(function)}
    if not unwanted or accepts_anything(function):
        return function

    @functools.wraps(function)
    def hearing(*args: Any, **given: Any) -> Any:
        return function(*args, **{word: value for word, value in given.items() if word not in unwanted})

    return hearing


def check_arguments(kind: str, component: Component, target: Callable[..., Any]) -> None:
    """Every argument in the config must be one the signature takes, the user's to give, and of the annotated type."""
    options = [word for word in parameters(target) if word not in FRAMEWORK - {"seed"}]
    for word, value in component.args.items():
        if word in options or (accepts_anything(target) and word not in FRAMEWORK):
            if (expected := wanted(target, word, value)) is not None:
                raise UserError(
                    f"Expected {expected} for {word} of the {kind.replace('_', ' ')} {component.name!r}, "
                    f"received {value!r}."
                )
            continue
        raise UserError(
            f"The {kind.replace('_', ' ')} {component.name!r} takes no argument {word!r}."
            + (did_you_mean(word, options) if options else " It takes none.")
        )


def complete(kind: str, component: Component) -> Component:
    """The component with the defaults of its signature written out, so that equal runs have equal configs."""
    target = find(kind, component.name)
    check_arguments(kind, component, target)  # at once, not after the data have been read
    check_complete(kind, component, target)
    return Component.model_validate({"name": component.name, **defaults(kind, component.name), **component.args})


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The arguments a user may leave out, with what they then are.

    >>> defaults("sampler", "grouped")
    {'slides_per_batch': 4}
    """
    plain = (bool, int, float, str, tuple, list)
    found = {
        word: parameter.default for word, parameter in parameters(find(kind, name)).items() if word not in FRAMEWORK
    }
    return {
        word: list(value) if isinstance(value, tuple) else value
        for word, value in found.items()
        if isinstance(value, plain)
    }


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a function or of a class's constructor."""
    signature = inspect.signature(target)
    return {
        word: parameter
        for word, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def accepts_anything(target: Callable[..., Any]) -> bool:
    """Whether the signature ends in **options."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def file_digests(components: list[Component]) -> dict[str, str]:
    """sha256 of every file the components consist of or read (`path`, `folder`): their content is part of the run."""
    places = [component.name.rpartition(":")[0] for component in components]
    files = {place for place in places if place.endswith(".py")}
    files |= {str(component.args["path"]) for component in components if "path" in component.args}
    folders = [Path(str(component.args["folder"])) for component in components if "folder" in component.args]
    files |= {str(file) for folder in folders for file in folder.glob("*.csv")}
    return {Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sorted(files)}


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"Expected an importable module before ':', received {name!r} ({error}).") from None


def _module_from_file(path: str) -> ModuleType:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"Expected a Python file before ':', received {path!r}: there is no such file.")
    name = f"{PLUGIN}{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises is the user's to see, in one sentence
        del sys.modules[name]
        raise UserError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    return module
