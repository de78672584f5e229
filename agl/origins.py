"""Where a component's code may come from: a Python file that is named, or a module that offers it.

Importing a module runs it, so a word in a config must not import whatever is installed. A module offers components by

    AGL_COMPONENTS = ("tweedie", "zero_inflated")

at its top level, in plain words: it is read, not run, before the module is imported. The modules of the built-in
components offer what they define.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from agl.blame import PLUGIN
from agl.builtins import WHERE
from agl.errors import ConfigError, did_you_mean
from agl.places import expanded, regular_file

OFFER = "AGL_COMPONENTS"
HOME = frozenset(place.partition(":")[0] for places in WHERE.values() for place in places.values())


def module_behind(name: str, attribute: str) -> ModuleType:
    """The module that holds a component, imported if it is a file or says that it offers `attribute`.

    Raises:
        ConfigError: no such file or module; a module that does not offer the attribute; code that fails when imported.
    """
    if name.endswith(".py"):
        return _from_file(name)
    if name in HOME:
        module = importlib.import_module(name)
        found = getattr(module, attribute, None)
        if found is not None and str(getattr(found, "__module__", "")).partition(".")[0] not in ("agl", "strank"):
            raise ConfigError(f"Expected a component of {name}, received {attribute!r}, which it has from elsewhere.")
        return module
    offered = offered_by(name)
    if attribute not in offered:
        raise ConfigError(
            f"Expected a module that offers {attribute!r}, received {name!r}, which offers "
            f"{', '.join(offered) or 'no components'}.{did_you_mean(attribute, offered) if offered else ''} "
            f'Write {OFFER} = ("{attribute}",) in it, or name a file: path/to/file.py:{attribute}.'
        )
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's module raises is the user's to see, in one sentence
        raise ConfigError(f"{name} could not be imported: {type(error).__name__}: {error}") from error


def offered_by(name: str) -> tuple[str, ...]:
    """The names in a module's AGL_COMPONENTS, read from its source; nothing of it is run.

    Raises:
        ConfigError: no such module.

    >>> offered_by("os")
    ()
    """
    spec = _spec(name) if all(part.isidentifier() for part in name.split(".")) else None
    if spec is None:
        raise ConfigError(
            f"Expected an importable module or a Python file (.py) before ':', received {name!r}: there is none."
        )
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    if file is None or file.suffix != ".py" or not file.is_file():
        return ()
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return ()
    values = [statement.value for statement in body if isinstance(statement, ast.Assign) and _offers(statement)]
    words = [item for value in values if isinstance(value, ast.Tuple | ast.List) for item in value.elts]
    return tuple(word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str))


def _offers(statement: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == OFFER for target in statement.targets)


def _spec(name: str) -> ModuleSpec | None:
    """Where a module lies. `importlib.util.find_spec` would import the packages around it; this asks the finders."""
    places, spec, full = None, None, ""
    for part in name.split("."):
        full = f"{full}.{part}" if full else part
        found = (finder.find_spec(full, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations or []
    return spec


def _from_file(path: str) -> ModuleType:
    file = regular_file(expanded(path), "a Python file before ':'")
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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in it must not look like success
        del sys.modules[name]
        raise ConfigError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    return module
