"""What one choice of a protocol moves: the scores themselves, and who stands before whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

CLOSE = 5e-4  # scores that differ by less read the same in a table


def ranked(frame: pd.DataFrame, choices: Sequence[str]) -> pd.DataFrame:
    """The rows with their rank within each protocol: 1 is best, equal scores share the better rank.

    Args:
        frame: one row a protocol and method: method, the choices' columns, score.
    """
    rank = frame.groupby(list(choices), sort=False).score.rank(ascending=False, method="min")
    return frame.assign(rank=rank.astype("Int64"))


def at(frame: pd.DataFrame, protocol: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one protocol by method."""
    here = np.logical_and.reduce([frame[name] == value for name, value in protocol.items()])
    return frame[here].set_index("method")


def neighbours(frame: pd.DataFrame, reference: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The reference, then every protocol that differs from it in one choice, with a name each: what differs."""
    found = [("reference", dict(reference))]
    for name in reference:
        for value in dict.fromkeys(frame[name]):
            if value != reference[name]:
                found.append((str(value), dict(reference) | {name: str(value)}))
    return found


def moves(frame: pd.DataFrame, reference: Mapping[str, str]) -> pd.DataFrame:
    """One row a single choice: what going from the reference to it does.

    Columns: choice, change ("pooled to per slide"), mean, lowest, highest (of the methods' changes), spreads (the mean
    size of a change in spreads over folds), tau (Kendall's tau-a of the two orders; scores that read the same, closer
    than 0.0005, are tied), turned (pairs of methods in opposite order), pairs (those that are apart both times),
    first_before, first.

    A method to which a choice does not apply (column `applies`, of the reference's row and the other's) keeps its score
    in the order and has no part in the change.
    """
    before = at(frame, reference)
    rows = []
    for name, other in neighbours(frame, reference)[1:]:
        after = at(frame, other).reindex(before.index)
        change = (after.score - before.score)[_applying(after)]
        concordant, turned, pairs = order_pairs(before.score.to_numpy(float), after.score.to_numpy(float))
        choice = next(key for key in reference if other[key] != reference[key])
        sizes = (change.abs() / before.sd.where(before.sd > 0)).dropna() if "sd" in before else change.iloc[:0]
        total = len(before) * (len(before) - 1) // 2
        rows.append(
            {
                "choice": choice,
                "change": f"{reference[choice]} to {name}",
                "mean": change.mean(),
                "lowest": change.min(),
                "highest": change.max(),
                "spreads": sizes.mean(),
                "tau": (concordant - turned) / total if total else np.nan,
                "turned": turned,
                "pairs": pairs,
                "first_before": _first(before),
                "first": _first(after),
            }
        )
    return pd.DataFrame(rows)


def order_pairs(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int]:
    """Pairs in the same order, pairs in opposite order, and their sum: those that are apart both times.

    >>> order_pairs(np.array([0.3, 0.2, 0.1]), np.array([0.2, 0.3, 0.1]))
    (2, 1, 3)
    """
    same = turned = 0
    for i, j in combinations(range(len(before)), 2):
        first, second = before[i] - before[j], after[i] - after[j]
        if abs(first) >= CLOSE and abs(second) >= CLOSE:  # NaN is in no order
            same, turned = same + int(first * second > 0), turned + int(first * second < 0)
    return same, turned, same + turned


def firsts(frame: pd.DataFrame, choices: Sequence[str]) -> pd.Series:
    """Method -> in how many of all protocols it is first (ties count for each)."""
    best = ranked(frame, choices)
    counted = best[best["rank"] == 1].method.value_counts()
    return counted.reindex(list(dict.fromkeys(frame.method)), fill_value=0)


def _applying(after: pd.DataFrame) -> pd.Series:
    return after.applies.astype(bool) if "applies" in after else pd.Series(True, index=after.index)


def _first(rows: pd.DataFrame) -> str:
    known = rows.score.dropna()
    return str(known.index[int(known.to_numpy().argmax())]) if len(known) else ""
