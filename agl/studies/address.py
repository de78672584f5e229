"""The address of a study's storage: a journal file, PostgreSQL, SQLite, or a gRPC proxy in front of PostgreSQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agl.errors import UserError, did_you_mean

Kind = Literal["journal", "postgresql", "sqlite", "grpc"]
SCHEMES: dict[str, Kind] = {
    "journal": "journal", "postgresql": "postgresql", "postgres": "postgresql", "sqlite": "sqlite", "grpc": "grpc",
}  # fmt: skip
EXAMPLES = "journal:runs/study.journal, postgresql://user@host/database or grpc://host:13000"


@dataclass(frozen=True)
class Address:
    """A storage as its URL names it; `?heartbeat=SECONDS` says how often a worker gives a sign of life.

    >>> parse_storage("postgresql://me:secret@db/agl?heartbeat=5").shown
    'postgresql+psycopg2://me:***@db/agl'
    >>> parse_storage("grpc://db:13000").kind
    'grpc'
    """

    kind: Kind
    url: str  # a path for journals, host:port for gRPC, else what SQLAlchemy understands
    heartbeat: float = 15.0

    @property
    def text(self) -> str:
        """The URL again, for other processes; it holds the password."""
        prefix = {"journal": "journal:", "grpc": "grpc://"}.get(self.kind, "")
        joint = "&" if "?" in self.url else "?"
        return f"{prefix}{self.url}" + ("" if self.heartbeat == 15.0 else f"{joint}heartbeat={self.heartbeat:g}")

    @property
    def shown(self) -> str:
        """The URL without its password, for people."""
        prefix = {"journal": "journal:", "grpc": "grpc://"}.get(self.kind, "")
        return _masked(prefix + self.url)

    @property
    def path(self) -> Path | None:
        """The file, of storages that are one."""
        if self.kind == "sqlite":
            return Path(self.url.partition(":///")[2].partition("?")[0])
        return Path(self.url) if self.kind == "journal" else None

    @property
    def grace(self) -> float:
        """Seconds without a sign of life after which a worker counts as dead."""
        return 4 * self.heartbeat


def parse_storage(text: str) -> Address:
    """An address, or a sentence with the ones there are."""
    scheme, colon, rest = text.partition(":")
    name = scheme.partition("+")[0].lower()
    if not colon:
        raise UserError(
            f"Expected a storage like {EXAMPLES}, received {_masked(text)!r}: it has no scheme before a colon."
        )
    if name not in SCHEMES:
        raise UserError(f"Expected a storage like {EXAMPLES}, received {_masked(text)!r}.{did_you_mean(name, SCHEMES)}")
    rest, heartbeat = _without_heartbeat(rest, text)
    kind = SCHEMES[name]
    if kind == "journal":
        path = rest.removeprefix("//") if rest.startswith("//") and not rest.startswith("///") else rest
        if not path or path.endswith("/"):
            raise UserError(
                f"Expected a file after journal:, received {_masked(text)!r}. Write journal:runs/study.journal."
            )
        return Address(kind, str(Path(path)), heartbeat)
    if not rest.startswith("//") or len(rest) < 3:
        raise UserError(
            f"Expected a storage like {EXAMPLES}, received {_masked(text)!r}: '//' is missing after {scheme}:."
        )
    if kind == "grpc":
        host, _, port = rest.removeprefix("//").rstrip("/").rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"Expected grpc://host:port, received {_masked(text)!r}. The proxy's usual port is 13000.")
        return Address(kind, f"{host}:{port}", heartbeat)
    if kind == "sqlite":
        return Address(kind, f"sqlite:{rest}", heartbeat)
    driver = scheme.partition("+")[2] or "psycopg2"
    return Address(kind, f"postgresql+{driver}:{rest}", heartbeat)


def refuse_sqlite(address: Address, what: str) -> None:
    """SQLite and several workers: refused, and why."""
    if address.kind == "sqlite":
        raise UserError(
            f"Expected a storage for {what}, received SQLite: it has no row locks, so two workers take the same "
            "cell or break off with 'database is locked'. Use journal:PATH on one machine, postgresql://... on many."
        )


def _without_heartbeat(rest: str, text: str) -> tuple[str, float]:
    """The URL's `heartbeat=` is ours; the database must not see it."""
    place, _, query = rest.partition("?")
    words = [word for word in query.split("&") if word]
    given = [word.partition("=")[2] for word in words if word.startswith("heartbeat=")]
    others = "&".join(word for word in words if not word.startswith("heartbeat="))
    try:
        heartbeat = float(given[-1]) if given else 15.0
    except ValueError:
        heartbeat = 0.0
    if heartbeat <= 0:
        raise UserError(f"Expected heartbeat=SECONDS above 0 in the storage, received {_masked(text)!r}.")
    return f"{place}?{others}" if others else place, heartbeat


def _masked(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
