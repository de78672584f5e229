"""Optional packages: imported when they are used, and named with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from agl.errors import UserError


def need(module: str, what: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed, or cannot be loaded.

    >>> need("math", "to count", "slides").pi > 3
    True
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is not there
        raise UserError(
            f"Expected the package {module.split('.')[0]} {what}, received none that can be imported "
            f"({type(error).__name__}: {error}). Write: pip install 'agl[{extra}]'"
        ) from error
