"""Counts the database connections that one server uses at most (table in docs/operations.md)."""

from __future__ import annotations

from typing import Final

import structlog

from ledger.core.sequencer import COMMITTERS
from ledger.errors import DatabaseUnavailable
from ledger.storage.connection_room import tightest_limit
from ledger.storage.database import Database
from server.settings import Settings

log = structlog.get_logger("quire")

LISTENERS: Final = 1
SIGNER: Final = 2
"""One that signs, and one that holds the lock of the leader."""
INDEXER: Final = 1
ATTESTING: Final = 2
ARCHIVER: Final = 7
"""One for its lock, five that read, and one that listens."""


def connections_needed(settings: Settings) -> int:
    """Return the connections of the server and its signer, without verification and retention."""
    needed = settings.workers * (settings.pool_size + COMMITTERS + LISTENERS)
    needed += INDEXER
    if settings.checkpoints:
        needed += SIGNER
        if settings.tsa_url is not None or settings.witness_policy is not None:
            needed += ATTESTING
    if settings.archive_target is not None:
        needed += ARCHIVER
    return needed


async def warn_of_few_connections(settings: Settings, database: Database) -> None:
    """Log a warning if the database allows fewer: the server works, but requests wait."""
    needed = connections_needed(settings)
    try:
        limit = await tightest_limit(database)
    except DatabaseUnavailable as error:
        log.warning("the database's limits of connections can't be read", reason=str(error))
        return
    if limit.connections < needed:
        log.warning(
            "the database allows fewer connections than this server can use: requests will wait "
            "for each other. Raise the limit, or lower QUIRE_POOL_SIZE or QUIRE_WORKERS",
            limit=limit.name,
            allowed=limit.connections,
            needed=needed,
        )
