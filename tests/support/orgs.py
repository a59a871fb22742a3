"""Orgs in a database without a register: for tests below the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ledger.entry import to_datetime
from ledger.keys import SigningKeyring
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import orgs, partitions
from ledger.storage.clock import now_us
from ledger.storage.orgs import OrgRow
from server.access.administering import administering
from server.access.administration import Administration
from tests.support.clusters import Database
from tests.support.trails import RING

MASTER_KEY = b"\x5f" * 32
"""That of the servers in tests."""


async def add_org(
    database: storage.Database, org_id: int, slug: str, name: str, privacy: str, wrapped_key: bytes
) -> str | None:
    """Create an org with an empty trail; return what is taken already, as the storage does."""
    row = OrgRow(org_id, slug, name, privacy, wrapped_key)
    async with database.connection() as connection:
        return await orgs.insert_org(connection, row, row.mac(row_key(MASTER_KEY)))


async def adopt(
    database: Database, *slugs: str, keyring: Callable[[bool], SigningKeyring] = lambda _: RING
) -> None:
    """Record orgs in the trail `system`, as `quire orgs adopt` does: a server serves them then."""
    opened = await storage.Database.open(database.server_url, size=2)
    try:
        await partitions.prepare(opened, to_datetime(await now_us(opened)))
        async with administering(opened, keyring, MASTER_KEY, None, adopts=True) as administration:
            for slug in slugs:
                await administration.restored(slug)
    finally:
        await opened.close()


@asynccontextmanager
async def at_work(
    database: Database, keyring: Callable[[bool], SigningKeyring] = lambda _: RING
) -> AsyncIterator[tuple[storage.Database, Administration]]:
    """An administration on a database, as a command has it."""
    opened = await storage.Database.open(database.server_url, size=3)
    try:
        await partitions.prepare(opened, to_datetime(await now_us(opened)))
        async with administering(opened, keyring, MASTER_KEY, None) as administration:
            yield opened, administration
    finally:
        await opened.close()
