"""Studies in a database: PostgreSQL with heartbeats, SQLite for one worker, a gRPC proxy in front of PostgreSQL."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from typing import Any

from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage, get_storage, run_grpc_proxy_server

from agl.errors import UserError
from agl.studies.address import Address
from agl.studies.outages import storage_errors


def open_database(address: Address) -> BaseStorage:
    """PostgreSQL or SQLite by way of SQLAlchemy, with heartbeats."""
    interval = max(1, round(address.heartbeat))
    named = inspect.signature(RDBStorage.__init__).parameters
    word = "heartbeat_stale_trial_callback"  # named failed_trial_callback before Optuna 4.9
    callback = word if word in named else "failed_trial_callback"
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.kind == "postgresql":
        options |= {"connect_args": {"connect_timeout": 10}, "pool_size": 2}
    given: dict[str, Any] = {
        "engine_kwargs": options,
        "heartbeat_interval": interval,
        "grace_period": max(2, round(address.grace)),
        callback: _requeue_stale,
    }
    try:
        return _patiently(lambda: RDBStorage(address.url, **given))
    except ImportError as error:
        raise UserError(
            f"Expected a database driver for {address.shown}, found none ({error}). "
            "Install it with `pip install 'agl[postgres]'`."
        ) from None


def _requeue_stale(study: Any, trial: Any) -> None:
    """What Optuna calls after it has failed a trial whose heartbeat stopped."""
    from agl.studies.ledger import requeue_lost

    requeue_lost(study)


def open_proxy(address: Address) -> BaseStorage:
    """What a worker sees of a database behind a proxy."""
    host, _, port = address.url.rpartition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls it experimental
        storage = GrpcStorageProxy(host=host, port=int(port))
    storage.wait_server_ready(timeout=8)
    return storage


def _patiently(make: Callable[[], BaseStorage], tries: int = 4) -> BaseStorage:
    """Workers that start together create the tables together; all but one meet what another has just made."""
    import sqlalchemy.exc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls heartbeats experimental
        for _ in range(tries - 1):
            try:
                return make()
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                time.sleep(0.5)
        return make()


def serve_proxy(address: Address, host: str, port: int) -> None:
    """Optuna's gRPC server in front of a database, until it is interrupted."""
    if address.kind != "postgresql":
        raise UserError(
            f"Expected PostgreSQL behind a proxy, received {address.shown}: a journal or SQLite there loses cells. "
            "Give --storage postgresql://..."
        )
    with warnings.catch_warnings(), storage_errors(address):
        warnings.simplefilter("ignore")  # Optuna calls it experimental
        try:
            run_grpc_proxy_server(get_storage(open_database(address)), host=host, port=port)
        except RuntimeError as error:
            raise UserError(f"Expected a free port, received {host}:{port}: {error}. Choose another --port.") from None
