"""Patches read by worker processes while the model works on the ones before them.

Processes and not threads: HDF5 holds one lock while it reads and decodes, so a second thread adds nothing and slows
down the one that trains. The parts come in the order they were asked for, whoever read them, and no random state is
touched: the same bits with any number of workers.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from agl.errors import DataError, UserError
from agl.machine import cores

Read = Callable[[np.ndarray], np.ndarray]  # positions of spots -> patches uint8 [spot, height, width, 3]
PARTS_AHEAD = 2  # of every worker, held in shared memory
PR_SET_PDEATHSIG = 1


class ReadAhead:
    """`read`, called by worker processes that start with the first part wanted and live until `close`.

    Args:
        read: must be picklable where processes are not forked.
        workers: how many processes, at least one; no more are started than there are cores.
        pin: put the parts where a GPU fetches them without waiting.
    """

    def __init__(self, read: Read, workers: int, *, pin: bool = False) -> None:
        self._read, self._busy = read, False
        self._parts: list[np.ndarray] = []
        self._loader: DataLoader = DataLoader(
            _Reading(read),
            sampler=self._parts,  # filled anew for every call
            batch_size=None,
            num_workers=min(workers, cores()),
            persistent_workers=True,
            prefetch_factor=PARTS_AHEAD,
            pin_memory=pin,
            generator=torch.Generator(),  # its own: the global one must draw as it does without workers
            worker_init_fn=_die_with_parent,
        )

    def __call__(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """The patches of each of these sets of spots, in their order; an error is raised at its part's turn."""
        if self._busy:  # asked for in the midst of other parts: what those have ready must not be lost
            yield from (torch.from_numpy(self._read(part)) for part in parts)
            return
        self._busy, self._parts[:] = True, parts
        try:
            for found in self._loader if parts else ():
                if isinstance(found, UserError):
                    raise found
                yield found
        finally:
            self._busy = False

    @property
    def lost(self) -> bool:
        """Whether a worker has died; one that is just dying is waited for."""
        running = self._loader._iterator
        sentinels = [] if running is None else [worker.sentinel for worker in running._workers]  # type: ignore[attr-defined]  # torch has no public way
        try:
            return bool(multiprocessing.connection.wait(sentinels, timeout=1))
        except RuntimeError:  # torch's own news of a death, at the moment it happens
            return True

    def close(self) -> None:
        """Stop the workers and wait for them."""
        running = self._loader._iterator
        if running is not None:
            running._shutdown_workers()  # type: ignore[attr-defined]  # else only once nothing refers to it
        self._loader._iterator = None


@contextmanager
def reading_ahead(read: Read, workers: int, *, pin: bool = False) -> Iterator[ReadAhead]:
    """A `ReadAhead` that is closed however the block ends.

    Raises:
        DataError: also where a worker was killed, which shows at any moment, as a RuntimeError of torch or as an end
            that nobody holds any more.
    """
    ahead = ReadAhead(read, workers, pin=pin)
    try:
        yield ahead
    except (RuntimeError, OSError, EOFError) as error:
        if not ahead.lost:
            raise
        raise DataError(
            "Expected every worker to read patches to the end, one was killed, as happens when memory or /dev/shm is "
            "full. Lower training.workers or training.batch_size; the same command resumes."
        ) from error
    finally:
        ahead.close()


class _Reading(Dataset):
    """What a worker does: errors of the user's are handed over whole, to be one sentence in the parent too."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def __getitem__(self, part: np.ndarray) -> Tensor | UserError:
        try:
            return torch.from_numpy(self._read(part))
        except UserError as error:
            return UserError(str(error))


def _die_with_parent(worker: int) -> None:
    """At once, and not when torch notices: a forked worker holds every lock that its parent held."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # killed before that call: no signal will come any more
            os.kill(os.getpid(), signal.SIGKILL)
