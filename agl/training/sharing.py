"""What several runs of one process have in common, made once and kept while there is room.

The cells of a grid read the same sections, cut the same folds, choose the same genes and are scored against the same
counts. A `Sharing` remembers these parts by what they were made from; a cell finds the bits that it would have made.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
ROOM = 1 << 30  # bytes


class Sharing:
    """Parts by what they are, what they are of, and what else decided them; those unused for longest go first.

    Args:
        most: parts of each kind that are kept; None: as many of all kinds as fit into `room`; 0: none.
        room: bytes.

    >>> sharing = Sharing()
    >>> table = np.arange(3)
    >>> sharing.get("sum", table, (), table.sum) is sharing.get("sum", table, (), table.sum)
    True
    """

    def __init__(self, most: int | None = None, *, room: int = ROOM) -> None:
        self.most, self.room = most, room
        self._parts: OrderedDict[tuple[str, int, Hashable], tuple[object, Any, int]] = OrderedDict()

    def get(self, kind: str, of: object, key: Hashable, make: Callable[[], T]) -> T:
        """The part, made if it is not there. While it is kept, so is `of`, which is known by its identity."""
        if self.most == 0:
            return make()
        name = (kind, id(of), key)
        if name not in self._parts:
            part = make()
            self._parts[name] = (of, part, 0 if self.most is not None else size_of(part))
        self._parts.move_to_end(name)
        found: T = self._parts[name][1]
        self._make_room(kind)
        return found

    def _make_room(self, kind: str) -> None:
        if self.most is None:
            while len(self._parts) > 1 and sum(size for _, _, size in self._parts.values()) > self.room:
                self._parts.popitem(last=False)
        elif Counter(name[0] for name in self._parts)[kind] > self.most:
            del self._parts[next(name for name in self._parts if name[0] == kind)]


def marks(*arrays: np.ndarray) -> bytes:
    """What tells arrays from others: a hash of their values.

    >>> marks(np.array([1, 2])) == marks(np.array([1, 2])), marks(np.array([1, 2])) == marks(np.array([2, 1]))
    (True, False)
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def size_of(part: Any, depth: int = 4) -> int:
    """Bytes of the arrays in a part, in what it holds, and so on; what lies on disk takes none.

    >>> size_of({"table": np.zeros(10), "more": [np.zeros(2, dtype=np.float32)]})
    88
    """
    if isinstance(part, np.memmap):
        return 0
    if isinstance(size := getattr(part, "nbytes", None), int | np.integer):
        return int(size)
    if depth == 0 or isinstance(part, str | bytes | type):
        return 0
    if hasattr(part, "memory_usage"):
        return int(np.sum(part.memory_usage(deep=True)))
    inside = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else None
    if inside is None:
        inside = getattr(part, "__dict__", {}).values()
    return sum(size_of(each, depth - 1) for each in inside)
