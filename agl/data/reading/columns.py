"""A table of AnnData on disk (obs, var), read column by column: a column that nobody needs cannot harm.

A column is a dataset; or a group of codes and categories (since 0.8; before, the categories lie in `__categories`); or
a group of values and a mask, where missing ones are masked.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from agl.data.reading.datasets import read
from agl.data.reading.hdf5 import strings
from agl.errors import DataError

_OLD_CATEGORIES = "__categories"


class ColumnTable:
    """The table at `key` of an open h5ad; `slide` is named in errors.

    Raises:
        DataError: no such table, or one of anndata before 0.7.
    """

    def __init__(self, h5: Any, key: str, slide: str) -> None:
        node = h5.get(key)
        if node is None:
            raise DataError(
                f"Expected a table '{key}' in the h5ad of slide '{slide}', found none; is it an AnnData file?"
            )
        if not hasattr(node, "keys"):
            raise DataError(
                f"Expected an h5ad of anndata 0.7 or newer, '{key}' of slide '{slide}' is older; "
                "read and write it once with a recent anndata."
            )
        self.key, self.slide, self._group = key, slide, node

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns, without the index."""
        return tuple(name for name in self._group if name not in (self._index_name, _OLD_CATEGORIES))

    @cached_property
    def index(self) -> np.ndarray:
        """Row names as `str` [row]; whole numbers become their digits."""
        if self._index_name not in self._group:
            raise DataError(f"Expected row names in '{self.key}' of slide '{self.slide}', found none; write it again.")
        return _as_text(self._values(self._index_name))

    def text(self, name: str) -> np.ndarray:
        """The column as stripped `str` [row], "" where missing."""
        return _as_text(self._column(name))

    def numbers(self, name: str) -> np.ndarray:
        """The column as float64 [row], NaN where missing or no number."""
        import pandas as pd

        values = self._column(name)
        return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)

    @property
    def _index_name(self) -> str:
        named = self._group.attrs.get("_index", "index" if "index" in self._group else "_index")
        return named.decode("utf-8", "replace") if isinstance(named, bytes) else str(named)

    def _column(self, name: str) -> np.ndarray:
        values = self._values(name)
        if len(values) != len(self):
            raise DataError(
                f"Expected {len(self)} values in {self._called(name)}, received {len(values)}; write the file again."
            )
        return values

    def _values(self, name: str) -> np.ndarray:
        """Numbers, or objects with None where missing; [row]."""
        node = self._group[name]
        if not hasattr(node, "keys"):
            values = read(node).reshape(-1)
            old = self._group.get(_OLD_CATEGORIES)
            return self._from_codes(name, values, old[name]) if old is not None and name in old else self._plain(values)
        if "codes" in node and "categories" in node:
            return self._from_codes(name, read(node["codes"]).reshape(-1), node["categories"])
        if "values" in node and "mask" in node:
            values = self._plain(read(node["values"]).reshape(-1)).astype(object)
            values[read(node["mask"]).reshape(-1).astype(bool)] = None
            return values
        encoding = node.attrs.get("encoding-type", "none named")
        raise DataError(
            f"Expected {self._called(name)} as numbers, text or categories, received another encoding ({encoding}); "
            "turn the column into text and write the file again."
        )

    def _from_codes(self, name: str, codes: np.ndarray, node: Any) -> np.ndarray:
        node = node["values"] if hasattr(node, "keys") and "values" in node else node  # categories may be nullable too
        categories = np.append(self._plain(read(node).reshape(-1)).astype(object), [None])  # code -1 is missing
        if codes.dtype.kind not in "iu" or (codes < -1).any() or (codes >= len(categories) - 1).any():
            raise DataError(
                f"Expected categories numbered from 0 to {len(categories) - 2} in {self._called(name)}, received "
                "others; write the file again."
            )
        return categories[codes]

    def _plain(self, values: np.ndarray) -> np.ndarray:
        return values if values.dtype.kind in "iufb" else strings(values)

    def _called(self, name: str) -> str:
        return f"{self.key}['{name}'] of slide '{self.slide}'"


def _as_text(values: np.ndarray) -> np.ndarray:
    missing = np.array([v is None or v != v for v in values.tolist()], dtype=bool)  # NaN differs from itself
    text = strings(values)
    text[missing] = ""
    return text
