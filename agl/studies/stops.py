"""When a worker heeds Ctrl-C and SIGTERM: in the middle of a training at once, between two entries in the books not."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

PATIENCE = 5.0  # seconds after which a second signal interrupts whatever is going on: a storage may hang


class Stops:
    """Both signals become a `KeyboardInterrupt`, raised at once inside `heeded()`, elsewhere at the next `heed()`.

    A cell that was taken but not begun, or finished but not entered, would otherwise look like that of a worker that
    died. Cluster managers send SIGTERM before they kill; a signal that was ignored before (a shell's background job is
    deaf to Ctrl-C) stays ignored. Outside the main thread nothing is changed.

    >>> with Stops() as stops:
    ...     signal.raise_signal(signal.SIGTERM)  # the books are written to their end
    ...     stops.heard
    ...     try:
    ...         stops.heed()
    ...     except KeyboardInterrupt:
    ...         print("now")
    True
    now
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._due = False
        self._open = False
        self._before: dict[int, Any] = {}

    @property
    def heard(self) -> bool:
        """Whether one came that was not heeded yet."""
        return self._due

    def heed(self) -> None:
        """Stop here if one came."""
        if self._due:
            self._due = False
            raise KeyboardInterrupt

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """A block that may be left anywhere."""
        self._open = True
        try:
            self.heed()
            yield
        finally:
            self._open = False

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.heed()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._due = True
        if self._open or now - self._since > PATIENCE:
            self.heed()
