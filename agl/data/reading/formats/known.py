"""The formats that a dataset is read with: the built-in ones, and a user's own before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from agl import registry
from agl.config import Component
from agl.data.reading.formats.base import FeatureFile, Format
from agl.errors import DataError
from agl.places import regular_file

Name = str | Mapping[str, Any] | Component


class Formats:
    """Who reads which feature file.

    Args:
        own: formats of a user's own, each a name such as `mine.py:Zarr`, or a name with arguments. One whose ending
            a built-in has too comes first.

    Raises:
        DataError: no such file or class, arguments it does not take, or a class that is no format.

    >>> Formats().suffixes
    ('.h5', '.hdf5', '.npy', '.pt', '.pth')
    """

    def __init__(self, own: Iterable[Name] = ()) -> None:
        self.own = [registry.as_component(dict(name) if isinstance(name, Mapping) else name, "formats") for name in own]
        built_in = [Component(name=name) for name in registry.names("format")]
        self._all = [(component, _made(component)) for component in (*self.own, *built_in)]

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """Every ending that is known, once."""
        return tuple(dict.fromkeys(suffix for _, each in self._all for suffix in each.suffixes))

    def knows(self, path: Path) -> bool:
        """Whether a file has one of the endings."""
        return path.name.endswith(self.suffixes)

    def stem(self, path: Path) -> str:
        """File name without its type; names may contain dots, so only known endings are cut.

        >>> Formats().stem(Path("S1.b.h5")), Formats().stem(Path("S1.b"))
        ('S1.b', 'S1.b')
        """
        ending = max((s for s in self.suffixes if path.name.endswith(s)), key=len, default="")
        return path.name.removesuffix(ending)

    def open(self, path: Path) -> FeatureFile:
        """Open a feature file by its ending. float16 is kept, everything else becomes float32.

        Raises:
            DataError: an unknown ending, unreadable, not a matrix of numbers, rows and names of different number.
        """
        return self._of(Path(path))[1].open(regular_file(path, "a feature file"))

    def sidecars(self, path: Path) -> list[Path]:
        """Existing files that name the rows of this one."""
        return self._of(path)[1].sidecars(path)

    def readers(self, paths: Iterable[Path]) -> dict[str, Any]:
        """The own formats that read these files, as what they are made of: part of what the data are."""
        used = [component for component in (self._of(path)[0] for path in paths) if component in self.own]
        named = [each.model_dump(mode="json") | {"name": Path(each.name).name} for each in used]
        return {"own": named, "files": registry.file_digests(used)} if used else {}

    def _of(self, path: Path) -> tuple[Component, Format]:
        for component, each in self._all:
            if path.name.endswith(tuple(each.suffixes)):
                return component, each
        raise DataError(
            f"Expected features as {', '.join(self.suffixes)}, received {path}; convert it to HDF5, or give a format "
            "of your own that reads it (data.formats)."
        )


def _made(component: Component) -> Format:
    made = registry.build("format", component)
    missing = [word for word in ("suffixes", "open", "blocks", "sidecars") if not hasattr(made, word)]
    suffixes = getattr(made, "suffixes", ())
    if missing or isinstance(suffixes, str) or not suffixes or not all(s.startswith(".") for s in suffixes):
        what = f"nothing called {missing[0]}" if missing else f"suffixes = {suffixes!r}"
        raise DataError(
            f"Expected a format with suffixes such as ('.h5',), open, blocks and sidecars, received {what} in "
            f"{component.name}; see agl.data.reading.formats.base.Format."
        )
    return made
