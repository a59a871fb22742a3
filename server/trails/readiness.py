"""Asks the database whether it answers and takes appends, within a bounded time."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from ledger.errors import MigrationError, QuireError
from ledger.storage import migrate
from ledger.storage.asking import Work, asking
from ledger.storage.probing import public_reason
from server.trails.services import Services

READY_S: Final = 3.0
"""The longest time until the state is known."""
READ_S: Final = 1.0
"""The longest wait for the answer to a read."""


class DatabaseState(NamedTuple):
    """The parts of readiness that depend on the database: "ok", or why not."""

    database: str
    migrations: str
    appends: str


AWAY: Final = DatabaseState("unreachable", "unreachable", "not tried")


async def database_state(services: Services) -> DatabaseState:
    """Return whether the database answers, has this version's schema, and takes a write."""
    deadline = asyncio.get_running_loop().time() + READY_S
    answered = True
    try:
        # No queue of others may say that the server is not ready.
        with asking(Work.VITAL, None):
            async with asyncio.timeout(READ_S):
                await services.database.fetch("SELECT 1")
                await migrate.require_current(services.database)
    except MigrationError as error:
        return DatabaseState("ok", str(error), "not tried")
    except QuireError:
        return AWAY
    except TimeoutError:
        # The database is silent, or reads of others use all connections: appends have their own.
        answered = False
    trouble = await _trouble(services, deadline)
    if trouble is not None and not answered:
        return AWAY
    return DatabaseState("ok", "ok", trouble or "ok")


async def _trouble(services: Services, deadline: float) -> str | None:
    """Return why no append can be written; None when appends work."""
    try:
        async with asyncio.timeout_at(deadline):
            return await services.sequencer.trouble()
    except TimeoutError as error:
        return public_reason(error)
