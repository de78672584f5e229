"""Auxiliary-gene learning: which genes should a model learn so that it ranks expression across a tissue image?

>>> import agl
>>> runs = agl.train("example", loss="listwise")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "UserError": "agl.errors",
    "ConfigError": "agl.errors",
    "DataError": "agl.errors",
    "LeakError": "agl.errors",
    "ModelError": "agl.errors",
    "Model": "agl.prediction.model",
    "Runs": "agl.api.runs",
    "Recommendation": "agl.api.work",
    "check": "agl.api.work",
    "train": "agl.api.work",
    "grid": "agl.api.work",
    "recommend": "agl.api.work",
    "open_run": "agl.api.work",
    "load_model": "agl.api.work",
    "report": "agl.api.work",
    "prepare": "agl.api.preparing",
    "slides": "agl.api.slides",
}
__all__ = [
    "ConfigError",
    "DataError",
    "LeakError",
    "Model",
    "ModelError",
    "Recommendation",
    "Runs",
    "UserError",
    "__version__",
    "check",
    "grid",
    "load_model",
    "open_run",
    "prepare",
    "recommend",
    "report",
    "slides",
    "train",
]

if TYPE_CHECKING:
    from agl.api.preparing import prepare
    from agl.api.runs import Runs
    from agl.api.slides import slides
    from agl.api.work import Recommendation, check, grid, load_model, open_run, recommend, report, train
    from agl.errors import ConfigError, DataError, LeakError, ModelError, UserError
    from agl.prediction.model import Model


def __getattr__(name: str) -> Any:
    """Each name is imported when it is first used, so that `import agl` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'agl' has no attribute {name!r}; it offers {', '.join(_WHERE)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
