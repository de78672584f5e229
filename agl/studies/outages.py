"""A storage that is gone, full or damaged: whatever was raised, as one sentence."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from agl.errors import UserError, first_line
from agl.studies.address import Address

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ESTALE)

# What Optuna raises over lines of a journal that are JSON and yet no entries.
FOREIGN = (KeyError, TypeError, AssertionError, RecursionError, AttributeError, IndexError)


class StorageGone(UserError):
    """The storage does not answer or cannot be written. What is finished is kept; the same command goes on."""


@contextmanager
def storage_errors(address: Address) -> Iterator[None]:
    """Whatever a storage raises when it is gone, full or damaged, as one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (ConnectionError, TimeoutError)):
            raise StorageGone(_gone(address, str(error))) from error
        if error.errno not in NO_ROOM and not isinstance(error, FileNotFoundError):
            raise
        raise StorageGone(
            f"The study's storage {address.shown} cannot be written: {_reason(error)}. "
            "What is finished is kept; mend it, and the same command goes on."
        ) from error
    except (ValueError, *FOREIGN) as error:
        if address.kind == "journal" and _is_damage(error):
            raise StorageGone(
                f"The journal {address.url} is damaged ({first_line(error)}). Restore it from a copy, or remove it: "
                "finished runs are kept in their folders and found again."
            ) from error
        raise
    except Exception as error:
        if not _is_connection_trouble(error):
            raise
        raise StorageGone(_gone(address, str(getattr(error, "orig", None) or _details(error)))) from error


def _is_damage(error: Exception) -> bool:
    """No JSON in the journal, or JSON of another kind, over which Optuna stumbles while it reads."""
    if isinstance(error, ValueError):
        return isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) or "Invalid log format" in str(error)
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith("optuna.storages.journal") for name in modules)


def _is_connection_trouble(error: Exception) -> bool:
    """Of SQLAlchemy, Optuna or gRPC, none of which is imported unless in use."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(
        names & {"sqlalchemy.DBAPIError", "sqlalchemy.TimeoutError", "optuna.StorageInternalError", "grpc.RpcError"}
    )


def _details(error: Exception) -> str:
    cause = error.__cause__
    found = getattr(cause, "orig", None) or (error.details() if hasattr(error, "details") else None)
    return str(found or error)


def _gone(address: Address, reason: str) -> str:
    first = " ".join(reason.split())[:200] or "no answer"
    return (
        f"The study's storage {address.shown} does not answer ({first}). "
        "What is finished is kept; once it is back, the same command goes on."
    )


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    if error.errno == errno.EROFS:
        return "the file system is read-only"
    return (error.strerror or str(error)).lower()
