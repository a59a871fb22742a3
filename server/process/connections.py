"""The connections that one server takes of its database, at most; docs/operations.md has the table."""

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
SIGNER: Final = 1
ATTESTING: Final = 2
ARCHIVER: Final = 7
"""Its lock, five that read, and one that listens."""


def connections_needed(settings: Settings) -> int:
    """What the server's role needs while nothing is verified and no month leaves."""
    needed = settings.workers * (settings.pool_size + COMMITTERS + LISTENERS)
    if settings.checkpoints:
        needed += SIGNER
        if settings.tsa_url is not None or settings.witness_policy is not None:
            needed += ATTESTING
    if settings.archive_target is not None:
        needed += ARCHIVER
    return needed


async def warn_of_few_connections(settings: Settings, database: Database) -> None:
    """Log it where the database allows fewer: the server works, but callers wait for each other."""
    needed = connections_needed(settings)
    try:
        limit = await tightest_limit(database)
    except DatabaseUnavailable as error:
        log.warning("the limits of connections can't be read", reason=str(error))
        return
    if limit.connections < needed:
        log.warning(
            "the database allows fewer connections than this server can use: callers will wait "
            "for each other. Raise the limit, or lower QUIRE_POOL_SIZE or QUIRE_WORKERS",
            limit=limit.name,
            allowed=limit.connections,
            needed=needed,
        )
