"""Opening a study's storage, whichever kind its address names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agl.errors import UserError
from agl.places import regular_file
from agl.studies.address import Address
from agl.studies.outages import storage_errors

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def open_storage(address: Address, *, create: bool = False) -> BaseStorage:
    """Optuna's storage at an address; a file is made only where `create` asks for it.

    Raises:
        UserError: no such file, or the storage does not answer.
    """
    path = address.path
    with storage_errors(address):
        if path is not None and not path.exists():
            if not create:
                raise UserError(
                    f"Expected a study's storage at {address.shown}, found no such file. "
                    "`agl grid` and `agl search` make one; --storage names another."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
        if address.kind == "journal":
            refuse_foreign(Path(address.url))
            from agl.studies.journal import open_journal

            return open_journal(Path(address.url))
        from agl.studies.databases import open_database, open_proxy

        return open_proxy(address) if address.kind == "grpc" else open_database(address)


def refuse_foreign(path: Path) -> None:
    """A journal is a file whose first line begins with a brace, or is empty: all else is never read to its end."""
    if not path.exists():
        return
    with regular_file(path, "the journal of a study").open("rb") as file:
        first = file.read(1)
    if first not in (b"", b"{"):
        raise UserError(
            f"Expected the journal of a study at {path}, received another file. Name the right one, or remove it: "
            "finished runs are kept in their folders and found again."
        )
