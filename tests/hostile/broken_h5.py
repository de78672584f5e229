"""Changes to an HDF5 file that keep it readable and make it say what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Change = Callable[[Any], None]


def put(place: str, values: Any, **attributes: Any) -> Change:
    """Write a dataset in the place of whatever is there, its attributes kept."""

    def change(file: Any) -> None:
        kept = dict(file[place].attrs) if place in file else {}
        if place in file:
            del file[place]
        file.create_dataset(place, data=values)
        for name, value in {**kept, **attributes}.items():
            file[place].attrs[name] = value

    return change


def edit(place: str, how: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the values of a dataset."""
    return lambda file: put(place, how(file[place][...]))(file)


def without(*places: str) -> Change:
    """Take something away."""

    def change(file: Any) -> None:
        for place in places:
            del file[place]

    return change


def said(place: str, **attributes: Any) -> Change:
    """Change what is said about something; None takes it away."""

    def change(file: Any) -> None:
        for name, value in attributes.items():
            key = name.replace("_", "-") if name != "_index" else name
            if value is None:
                del file[place].attrs[key]
            else:
                file[place].attrs[key] = value

    return change


def at(position: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """One value replaced."""

    def how(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values.reshape(-1)[position] = value
        return values

    return how


def dense(values: np.ndarray) -> Change:
    """Counts that are one dataset."""

    def change(file: Any) -> None:
        del file["X"]
        file.create_dataset("X", data=values)
        file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "array", "0.2.0"

    return change


def column_wise(indices: Callable[[np.ndarray], np.ndarray], indptr: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The same counts column by column, then broken."""

    def change(file: Any) -> None:
        from scipy import sparse

        rows = sparse.csr_matrix(tuple(file["X"][name][...] for name in ("data", "indices", "indptr")), shape=(40, 150))
        columns = rows.tocsc()
        for name, values in (
            ("data", columns.data),
            ("indices", indices(columns.indices)),
            ("indptr", indptr(columns.indptr)),
        ):
            put(f"X/{name}", values)(file)
        file["X"].attrs["encoding-type"] = "csc_matrix"

    return change


def vast(place: str, shape: tuple[int, ...], dtype: str = "i4") -> Change:
    """A dataset that says it is vast and holds nothing: compressed, it takes no room."""

    def change(file: Any) -> None:
        kept = dict(file[place].attrs) if place in file else {}
        if place in file:
            del file[place]
        file.create_dataset(place, shape, dtype, chunks=True, compression="gzip")
        for name, value in kept.items():
            file[place].attrs[name] = value

    return change


def linked(place: str, link: Any) -> Change:
    """Something else under that name: a link, a type."""

    def change(file: Any) -> None:
        del file[place]
        file[place] = link

    return change


def same(values: np.ndarray) -> np.ndarray:
    """As it is."""
    return values


def several(*changes: Change) -> Change:
    """One after another."""

    def change(file: Any) -> None:
        for each in changes:
            each(file)

    return change
