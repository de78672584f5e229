"""When Ctrl-C and SIGTERM stop a worker: at once in the middle of a training, never between two writes to a storage."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

PATIENCE = 5.0  # seconds after which a second signal interrupts whatever is going on: a storage may hang


class StopSignals:
    """Both become a `KeyboardInterrupt`, raised at once inside `interruptible()`, elsewhere at the next `check()`.

    A cell that was taken but not begun, or finished but not entered, would otherwise look like that of a worker that
    died. Cluster managers send SIGTERM before they kill; a signal that was ignored before (a shell's background job is
    deaf to Ctrl-C) stays ignored. Outside the main thread nothing is changed.

    >>> with StopSignals() as stops:
    ...     signal.raise_signal(signal.SIGTERM)  # what is being written is written to its end
    ...     stops.heard
    ...     try:
    ...         stops.check()
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
        """Whether one came that has not been acted on yet."""
        return self._due

    def check(self) -> None:
        """Stop here if one came."""
        if self._due:
            self._due = False
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that may be left anywhere."""
        self._open = True
        try:
            self.check()
            yield
        finally:
            self._open = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._due = True
        if self._open or now - self._since > PATIENCE:
            self.check()
